"""What teachers need: the students' edition, grading, a class's guesses, and the answer key."""
