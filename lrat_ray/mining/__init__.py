"""From trajectories to weighted training pairs: transitions -> judge -> negatives -> intensity."""
