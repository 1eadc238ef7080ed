//! Nothing, on purpose.
//!
//! glommio 0.9.0 names the crate `lockfree` among its dependencies and does not use it
//! (<https://github.com/DataDog/glommio/issues/677>). That crate is unsound and not maintained, so
//! this empty one takes its place in `[patch.crates-io]`. It goes when glommio no longer names it.
