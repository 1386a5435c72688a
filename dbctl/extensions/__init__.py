"""Extensions: one package for each subject without which the commands of the core have the same results."""
