//! What is drawn for each lasting object: its magnitude, colours and the parameters of its light curve.

use super::object::{Galaxy, LASTING_KIND, Object, place};
use super::population::{Layer, Sky, TILE_OBJECTS};
use crate::simulator::dice::Dice;
use crate::simulator::light::eclipse::Eclipses;
use crate::simulator::light::outburst::{Flares, Outbursts};
use crate::simulator::light::pulsation::{Kind, Pulsation, rr_lyrae_amplitude};
use crate::simulator::light::walk::{TAUS, Walk};
use crate::simulator::light::{Light, coloured};
use crate::simulator::seen::Class;

/// Dice of a lasting object.
const LASTING: u64 = 0x31;

/// The number of lasting object `index` of a tile.
pub(crate) fn number(tile: u32, index: u32) -> u64 {
    (u64::from(tile) * u64::from(TILE_OBJECTS) + u64::from(index)) << 2 | LASTING_KIND
}

/// Lasting object `index` of a tile, of a class and layer as [`Sky::lasting`] says.
pub(crate) fn lasting(sky: &Sky, tile: u32, index: u32, class: Class, layer: Layer) -> Object {
    let mut dice = Dice::new(&[sky.seed, LASTING, u64::from(tile), u64::from(index)]);
    let (ra_deg, dec_deg) = place(&sky.tiles.tile(tile), &mut dice);
    let r = apparent(class, layer, &mut dice);
    let dice = &mut dice;
    let (light, host) = match class {
        Class::RrLyrae => (Light::Pulsation(rr_lyrae(r, dice)), None),
        Class::Cepheid => (Light::Pulsation(cepheid(r, dice)), None),
        Class::Mira => (Light::Pulsation(mira(r, dice)), None),
        Class::EclipsingBinary => (Light::Eclipses(binary(r, dice)), None),
        Class::CataclysmicVariable => (Light::Outbursts(cataclysmic(r, dice)), None),
        Class::FlareStar => (Light::Flares(flare_star(r, dice)), None),
        _ => {
            let host = r + dice.within(-0.5, 2.0);
            let size = dice.within(0.5, 2.5);
            (Light::Walk(nucleus(r, dice)), Some(Galaxy::draw(host, size, [0.0, 0.0], dice)))
        }
    };
    Object { number: number(tile, index), class, ra_deg, dec_deg, light, host }
}

/// Magnitude in r: counts that grow as 10 to the slope times the magnitude, between limits.
fn apparent(class: Class, layer: Layer, dice: &mut Dice) -> f64 {
    let (brightest, faintest, slope) = match class {
        Class::RrLyrae => (13.5, 18.8, 0.15),
        Class::Cepheid => (13.0, 18.0, 0.2),
        Class::EclipsingBinary => (13.5, 18.5, 0.25),
        Class::Mira => (13.0, 18.0, 0.2),
        Class::Agn => (15.5, 18.8, 0.5),
        Class::CataclysmicVariable => (17.0, 21.5, 0.3),
        _ => (14.5, 19.0, 0.35),
    };
    let deeper = if layer == Layer::Faint { 4.2 } else { 0.0 };
    let (brightest, faintest) = if layer == Layer::Faint { (faintest, faintest + deeper) } else { (brightest, faintest) };
    // The inverse of the share of what is brighter.
    let least = libm::exp10(slope * (brightest - faintest));
    faintest + libm::log10(dice.within(least, 1.0)) / slope
}

fn rr_lyrae(r: f64, dice: &mut Dice) -> Pulsation {
    let first_overtone = dice.within(0.0, 1.0) < 0.25;
    let (kind, period_days, amplitude) = if first_overtone {
        (Kind::RrC, dice.within(0.25, 0.42), dice.within(0.35, 0.55))
    } else {
        let period = dice.within(0.45, 0.75);
        (Kind::RrAb, period, (rr_lyrae_amplitude(period) + 0.1 * dice.gauss()).clamp(0.25, 1.5))
    };
    Pulsation {
        kind,
        period_days,
        epoch_mjd: 60_000.0 + period_days * dice.within(0.0, 1.0),
        means: coloured(r, [1.35, 0.22, -0.08, -0.10, -0.10]),
        amplitudes: [0.97, 1.0, 0.71, 0.57, 0.52, 0.50].map(|ratio| ratio * amplitude),
    }
}

fn cepheid(r: f64, dice: &mut Dice) -> Pulsation {
    let period_days = 3.0 * libm::pow(15.0, dice.within(0.0, 1.0));
    let amplitude = dice.within(0.4, 1.0);
    Pulsation {
        kind: Kind::Cepheid,
        period_days,
        epoch_mjd: 60_000.0 + period_days * dice.within(0.0, 1.0),
        means: coloured(r, [2.4, 0.6, -0.2, -0.3, -0.35]),
        amplitudes: [1.5, 1.15, 0.8, 0.62, 0.55, 0.5].map(|ratio| ratio * amplitude),
    }
}

fn mira(r: f64, dice: &mut Dice) -> Pulsation {
    let period_days = (300.0 + 80.0 * dice.gauss()).clamp(120.0, 550.0);
    let amplitude = dice.within(2.5, 5.0);
    Pulsation {
        kind: Kind::Mira,
        period_days,
        epoch_mjd: 60_000.0 + period_days * dice.within(0.0, 1.0),
        means: coloured(r, [5.5, 2.0, -1.6, -2.6, -3.1]),
        amplitudes: [1.05, 1.0, 0.85, 0.55, 0.4, 0.35].map(|ratio| ratio * amplitude),
    }
}

fn binary(r: f64, dice: &mut Dice) -> Eclipses {
    let contact = dice.within(0.0, 1.0) < 0.5;
    let period_days = if contact { dice.within(0.25, 0.6) } else { 0.6 * libm::pow(15.0, dice.within(0.0, 1.0)) };
    let deep = if contact { dice.within(0.05, 0.3) } else { dice.within(0.15, 1.2) };
    let second = deep * dice.within(0.3, 1.0);
    let red = dice.within(0.0, 1.0);
    Eclipses {
        period_days,
        epoch_mjd: 60_000.0 + period_days * dice.within(0.0, 1.0),
        means: coloured(r, [1.2 + 1.5 * red, 0.2 + 0.8 * red, -0.1 - 0.3 * red, -0.1 - 0.45 * red, -0.1 - 0.55 * red]),
        depths: [deep, second],
        width: if contact { dice.within(0.03, 0.06) } else { dice.within(0.01, 0.04) },
        ellipsoidal: if contact { dice.within(0.08, 0.3) } else { dice.within(0.0, 0.05) },
    }
}

fn cataclysmic(r: f64, dice: &mut Dice) -> Outbursts {
    let recurrence_days = 15.0 * libm::pow(20.0, dice.within(0.0, 1.0));
    let plateau_days = dice.within(1.0, 10.0f64.min(recurrence_days / 6.0));
    Outbursts {
        seed: dice.bits(),
        means: coloured(r, [0.1, 0.15, -0.1, -0.2, -0.25]),
        recurrence_days,
        amplitude_mag: dice.within(2.0, 6.0),
        rise_days: dice.within(0.4, 1.5),
        plateau_days,
        decline_days: dice.within(2.0, 8.0f64.min(recurrence_days / 4.0)),
    }
}

fn flare_star(r: f64, dice: &mut Dice) -> Flares {
    Flares {
        seed: dice.bits(),
        means: coloured(r, [4.0, 1.4, -1.5, -2.2, -2.5]),
        rate_per_day: 0.05 * libm::pow(40.0, dice.within(0.0, 1.0)),
        half_width_days: dice.within(3.0, 25.0) / 1440.0,
    }
}

fn nucleus(r: f64, dice: &mut Dice) -> Walk {
    Walk {
        seed: dice.bits(),
        tau: dice.below(TAUS as u64) as u8,
        sigma_mag: (0.2 * libm::exp(0.4 * dice.gauss())).clamp(0.06, 0.6),
        means: coloured(r, [0.5, 0.2, -0.1, -0.15, -0.15]),
    }
}
