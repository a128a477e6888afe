"""The parts of the learner process, each free of the others: checkpoints, announcements, expert updates, rounds."""
