"""What passes between the parts of a cut net. No socket, thread or clock."""
