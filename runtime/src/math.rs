//! Elementary functions written out, so that their bits do not depend on a platform's libm.
