//! Fink's classification of one alert: `fink_filters.ztf.classification.extract_fink_classification_` (7.45), rule by rule.

use fink_dataflow::detection::{Enriched, Traits};
use serde::{Deserialize, Serialize};

/// What the rules see of an alert, whatever stands at its place in a catalogue.
#[derive(Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Signs(u8);

impl Signs {
    const MICROLENSING: u8 = 1;
    const SUPERNOVA: u8 = 2;
    const EARLY_SUPERNOVA: u8 = 4;
    const KILONOVA: u8 = 8;
    const MOVING: u8 = 16;
    const TRACKLET: u8 = 32;
    const KNOWN_MOVING: u8 = 64;

    /// The signs of an alert. Numbers that are not there pass no threshold.
    #[must_use]
    pub fn of(traits: &Traits) -> Self {
        let real = f64::from(traits.drb.0) > 0.5 && f64::from(traits.classtar.0) > 0.4;
        let (age, count, roid) = (traits.age_days.0, traits.detections, traits.roid);
        let score = |of: fn(&Enriched) -> f64| traits.enriched.as_deref().map_or(f64::NAN, of);
        let supernova = real && (score(|e| e.snn_snia_vs_nonia.0) > 0.5 || score(|e| e.snn_sn_vs_all.0) > 0.5);
        let signs = [
            (Self::MICROLENSING, score(|e| e.mulens.0) > 0.0),
            (Self::SUPERNOVA, supernova && age <= 90.0 && count > 1 && roid != 3),
            (Self::EARLY_SUPERNOVA, supernova && score(|e| e.rf_snia_vs_nonia.0) > 0.5 && count <= 20),
            (Self::KILONOVA, real && score(|e| e.rf_kn_vs_nonkn.0) > 0.5 && age < 5.0 && count < 20 && roid != 3),
            (Self::MOVING, roid == 2),
            (Self::TRACKLET, traits.tracklet),
            (Self::KNOWN_MOVING, roid == 3),
        ];
        Self(signs.into_iter().filter(|(_, there)| *there).map(|(sign, _)| sign).sum())
    }

    fn has(self, sign: u8) -> bool {
        self.0 & sign != 0
    }

    /// The signs in one byte.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// What [`Self::bits`] gave.
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl std::fmt::Debug for Signs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:07b}", self.0)
    }
}

/// Which rule spoke last.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// None did.
    Unknown,
    /// Microlensing, by its score.
    Microlensing,
    /// A supernova, by its scores.
    Supernova,
    /// A young supernova Ia, by its scores.
    EarlySupernova,
    /// A kilonova, by its score.
    Kilonova,
    /// Moving, by Fink's rule.
    Moving,
    /// Part of a track of satellites or debris.
    Tracklet,
    /// Moving, and known to the survey.
    KnownMoving,
    /// Several that exclude each other.
    Ambiguous,
    /// The type of what stands at its place.
    Catalogue,
}

impl Rule {
    /// The class that it gives, in Fink's words; empty for a catalogue's type, which has its own.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => UNKNOWN,
            Self::Microlensing => "Microlensing candidate",
            Self::Supernova => "SN candidate",
            Self::EarlySupernova => "Early SN Ia candidate",
            Self::Kilonova => "Kilonova candidate",
            Self::Moving => "Solar System candidate",
            Self::Tracklet => "Tracklet",
            Self::KnownMoving => "Solar System MPC",
            Self::Ambiguous => "Ambiguous",
            Self::Catalogue => "",
        }
    }
}

/// No type, and no class.
pub const UNKNOWN: &str = "Unknown";

/// The rule that gives an alert its class, if `cdsxmatch` stands at its place (`Unknown`: nothing does).
#[must_use]
pub fn finkclass(signs: Signs, cdsxmatch: &str) -> Rule {
    if is_known(cdsxmatch) {
        return Rule::Catalogue;
    }
    let host = is_extragalactic_or_unknown(cdsxmatch);
    let (supernova, moving) = (host && signs.has(Signs::SUPERNOVA), signs.has(Signs::MOVING));
    let (microlensing, known_moving) = (signs.has(Signs::MICROLENSING), signs.has(Signs::KNOWN_MOVING));
    if [microlensing, supernova, moving, known_moving].into_iter().filter(|flag| *flag).count() > 1 {
        return Rule::Ambiguous;
    }
    // Later ones win.
    let rules = [
        (microlensing, Rule::Microlensing),
        (supernova, Rule::Supernova),
        (host && signs.has(Signs::EARLY_SUPERNOVA), Rule::EarlySupernova),
        (host && signs.has(Signs::KILONOVA), Rule::Kilonova),
        (moving, Rule::Moving),
        (signs.has(Signs::TRACKLET), Rule::Tracklet),
        (known_moving, Rule::KnownMoving),
    ];
    rules.into_iter().rev().find(|(holds, _)| *holds).map_or(Rule::Unknown, |(_, rule)| rule)
}

/// Whether a SIMBAD type says what an alert is: `simbad_candidates_`. Galaxies do not: something happens in them.
#[must_use]
pub fn is_known(cdsxmatch: &str) -> bool {
    !matches!(cdsxmatch, UNKNOWN | "Transient") && !cdsxmatch.starts_with("Fail") && !cdsxmatch.starts_with("Galaxy")
}

/// Whether something extragalactic may happen at such a place: `return_list_of_eg_host`.
#[must_use]
pub fn is_extragalactic_or_unknown(cdsxmatch: &str) -> bool {
    const HOSTS: [&str; 34] = [
        UNKNOWN,
        "Candidate_SN*",
        "SN*_Candidate",
        "SN",
        "Transient",
        "Fail",
        "Fail 504",
        "galaxy",
        "Galaxy",
        "EmG",
        "Seyfert",
        "Seyfert_1",
        "Seyfert_2",
        "BlueCompG",
        "StarburstG",
        "LSB_G",
        "HII_G",
        "High_z_G",
        "GinPair",
        "GinGroup",
        "BClG",
        "GinCl",
        "PartofG",
        "Compact_Gr_G",
        "IG",
        "PairG",
        "GroupG",
        "ClG",
        "SuperClG",
        "Void",
        "LINER",
        "Possible_ClG",
        "Possible_SClG",
        "GravLens_Candidate",
    ];
    HOSTS.contains(&cdsxmatch)
}
