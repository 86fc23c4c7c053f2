"""From weighted training pairs to a better encoder: weighted InfoNCE, a DeepSpeed loop under Ray Train, and the control arm."""
