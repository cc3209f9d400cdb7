//! Who works in the console: the file that names them, and who is signed in.

/// Who signs in, with which password, to do what.
pub mod roster;

/// Who is signed in.
pub mod session;
