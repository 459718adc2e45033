"""Parts of a cut net: the contract, the cut, and what computes one."""
