"""The referee: measures of untrained networks judged by accuracies that others trained."""
