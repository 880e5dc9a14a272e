//! Landlock and seccomp around the processes of the agent pod, with a self-test before exec.
