//! Tests of the certificate rule: every wrong form, in both roles.
