//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): what we read and what we write.
