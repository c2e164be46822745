//! The file-system seam of a log: real files, and a simulated disk that can crash.
