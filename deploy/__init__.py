"""How people start dualshard: the command line and the launchers."""
