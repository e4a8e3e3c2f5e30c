//! The sky: what is where, and what each of it is, from a seed.
//!
//! | module | what it is |
//! |---|---|
//! | [`tiles`] | the sphere in 7,000 tiles, whose contents are made when they are looked at |
//! | [`population`] | how many of each class a tile has, by galactic place |
//! | [`object`] | one object: place, light curve, host, neighbours |
//! | [`stars`] | what is drawn for stars and galactic nuclei |
//! | [`transients`] | what is drawn for what shines once |
//! | [`orbit`] | places of the Earth and of bodies on Keplerian orbits |
//! | [`asteroids`] | the asteroids |
//!
//! No list of objects is kept: a tile's objects are a function of the seed and the tile's number. Lasting objects are
//! numbered within their tile; what shines once, within its tile and a span of 128 days.

pub(crate) mod asteroids;
pub(crate) mod object;
pub(crate) mod orbit;
pub(crate) mod population;
pub(crate) mod stars;
pub(crate) mod tiles;
pub(crate) mod transients;

pub(crate) use object::Object;
pub(crate) use population::Sky;
