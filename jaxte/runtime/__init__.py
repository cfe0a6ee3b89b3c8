"""Where and how programs run: devices, precision, threads, compiled programs, meshes."""
