"""A job in; its plan, its tasks and, stage by stage, a finished run out."""
