"""Control: what brings the cluster to its target, decides about it, and answers on the control port."""
