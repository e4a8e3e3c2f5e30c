//! What objects are, by name.

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Class {
    RrLyrae,
    Cepheid,
    EclipsingBinary,
    Mira,
    Agn,
    CataclysmicVariable,
    FlareStar,
    Microlensing,
    SupernovaIa,
    SupernovaIbc,
    SupernovaII,
    Kilonova,
    TidalDisruption,
    Asteroid,
    /// A satellite's glint: a point or a short streak seen once.
    SatelliteGlint,
    /// A bogus detection: a bright star that was subtracted badly, at the same place again and again.
    BadSubtraction,
    /// A bogus detection: a hit of the detector.
    CosmicRay,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 17] = [
        Self::RrLyrae,
        Self::Cepheid,
        Self::EclipsingBinary,
        Self::Mira,
        Self::Agn,
        Self::CataclysmicVariable,
        Self::FlareStar,
        Self::Microlensing,
        Self::SupernovaIa,
        Self::SupernovaIbc,
        Self::SupernovaII,
        Self::Kilonova,
        Self::TidalDisruption,
        Self::Asteroid,
        Self::SatelliteGlint,
        Self::BadSubtraction,
        Self::CosmicRay,
    ];

    /// The class's name, as the truth table says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RrLyrae => "RR Lyrae",
            Self::Cepheid => "Cepheid",
            Self::EclipsingBinary => "eclipsing binary",
            Self::Mira => "Mira",
            Self::Agn => "AGN",
            Self::CataclysmicVariable => "cataclysmic variable",
            Self::FlareStar => "flare star",
            Self::Microlensing => "microlensing",
            Self::SupernovaIa => "SN Ia",
            Self::SupernovaIbc => "SN Ibc",
            Self::SupernovaII => "SN II",
            Self::Kilonova => "kilonova",
            Self::TidalDisruption => "tidal disruption",
            Self::Asteroid => "asteroid",
            Self::SatelliteGlint => "satellite glint",
            Self::BadSubtraction => "bad subtraction",
            Self::CosmicRay => "cosmic ray",
        }
    }

    /// Whether it is an artefact of the telescope, camera or pipeline, not light from the sky beyond.
    #[must_use]
    pub fn is_bogus(self) -> bool {
        matches!(self, Self::BadSubtraction | Self::CosmicRay)
    }
}
