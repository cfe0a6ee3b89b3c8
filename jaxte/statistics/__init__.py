"""What is known of the features and labels of one model: rows, moments, spectra."""
