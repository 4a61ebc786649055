"""What the window knows, and the threads and jobs that it knows it by. No widget."""
