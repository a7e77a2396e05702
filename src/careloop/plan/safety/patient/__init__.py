"""The facts about a patient that safety rules ask for, as they were known at the prediction time."""
