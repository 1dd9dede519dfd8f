//! What a run found: matrix, list, explanations.
