//! Tests of the machine with invented instants.
