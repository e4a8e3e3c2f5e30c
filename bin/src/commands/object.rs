//! `fink object`: what an object is.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;

use super::ask::{AskArgs, number, when};
use super::plot::{Mark, plot};
use super::show::columns;
use crate::services::answers::{Answer, ObjectAnswer, OneAnswer};

const EXAMPLES: &str = "\
Examples:
  fink object ZTF21abiuvdk
  fink object ZTF21abiuvdk --points      every point of its light curve
  fink object 313853511989067795 --json  for scripts

Asks the services that run on this machine (`fink start archive services`).";

/// Show an object: light curve, brightness, class, what stands there
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ObjectArgs {
    /// The survey's name for it
    #[arg(value_name = "ID")]
    id: String,
    /// ztf or lsst, where both have an object of this name
    #[arg(long, value_name = "NAME")]
    survey: Option<String>,
    /// Every point of the light curve
    #[arg(long)]
    points: bool,
    /// Draw the light curve even where the output is no terminal
    #[arg(long)]
    plot: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs it.
///
/// # Errors
/// When nobody can be asked, or there is no such object.
pub fn run(args: &ObjectArgs) -> anyhow::Result<ExitCode> {
    let mut query = vec![("objectId", args.id.clone())];
    query.extend(args.survey.iter().map(|survey| ("survey", survey.clone())));
    let Some(answer) = args.ask.ask::<Answer<OneAnswer>>("/api/v1/objects", &query)? else { return Ok(ExitCode::SUCCESS) };
    let object = &answer.answer.object;
    print!("{}", text(object));
    if args.plot || std::io::stdout().is_terminal() {
        print!("\n{}", drawn(object));
    }
    if args.points {
        print!("\n{}", points(object));
    }
    print!("\n{}", when(&answer.moment, answer.complete));
    Ok(ExitCode::SUCCESS)
}

fn text(object: &ObjectAnswer) -> String {
    let place = match (object.ra_deg, object.dec_deg) {
        (Some(ra), Some(dec)) => format!("RA {ra:.6} Dec {dec:+.6}, scatter {} arcsec", number(object.scatter_arcsec, 2)),
        _ => "moves".to_owned(),
    };
    let mut text = format!("{} ({}): {place}\n", object.object_id, object.survey);
    text += &format!(
        "{} alerts, {} detections, {} upper limits, {} forced; MJD (TAI) {} to {}\n",
        object.alerts,
        object.detections,
        object.limits,
        object.forced,
        number(object.first_mjd_tai, 5),
        number(object.last_mjd_tai, 5)
    );
    if let Some(class) = &object.class {
        text += &format!("class {class}\n");
    }
    for change in &object.classes {
        let why = change.catalogue.as_ref().map_or(format!("rule {}", change.rule), |(name, row)| format!("{name}, row {row}"));
        text += &format!("  from MJD {} {} ({why}; alert {})\n", number(change.since_mjd_tai, 5), change.class, change.alert);
    }
    for found in &object.matches {
        let carried: Vec<_> = found.carried.iter().map(|(name, value)| format!("{name} {value}")).collect();
        text += &format!("at {:.2} arcsec in {}: {} (row {})\n", found.separation_arcsec, found.catalogue, carried.join(", "), found.row);
    }
    for other in &object.associations {
        text += &format!("at {:.2} arcsec of {}: {}\n", other.separation_arcsec, other.survey, other.object_id);
    }
    if let Some(colour) = &object.colour {
        let (blue, red) = colour.bands;
        text +=
            &format!("{blue}-{red} {} ± {} at MJD {}\n", number(colour.magnitude, 2), number(colour.error, 2), number(colour.mjd_tai, 5));
    }
    let mut rows = vec![["BAND", "DETECTIONS", "LATEST", "PEAK", "AT MJD", "RISE mag/d", "DECLINE mag/d"].map(str::to_owned)];
    for band in &object.bands {
        let with_error = |(value, error): (Option<f64>, Option<f64>)| format!("{} ± {}", number(value, 3), number(error, 3));
        rows.push([
            band.band.to_string(),
            band.detections.to_string(),
            number(band.latest.magnitude, 2),
            number(band.peak.magnitude, 2),
            number(band.peak.mjd_tai, 3),
            with_error(band.rise_mag_per_day),
            with_error(band.decline_mag_per_day),
        ]);
    }
    text + "\n" + &columns(&rows)
}

/// The light curve in characters: detections by their band's letter, limits as `v`.
fn drawn(object: &ObjectAnswer) -> String {
    let mark = |point: &crate::services::answers::PointAnswer| {
        let (magnitude, letter) = match point.kind.as_str() {
            "detection" => (point.magnitude, point.band),
            // A limit of a survey that gives fluxes is none in magnitudes.
            "limit" => (point.limit.filter(|limit| *limit < 40.0), 'v'),
            _ => (None, ' '),
        };
        Some(Mark { x: point.mjd_tai?, y: magnitude?, letter })
    };
    let marks: Vec<Mark> = object.lightcurve.iter().filter_map(mark).collect();
    plot(&marks, "mag", "MJD")
}

fn points(object: &ObjectAnswer) -> String {
    let mut rows = vec![["MJD (TAI)", "BAND", "KIND", "MAG", "ERROR", "LIMIT", "FLUX nJy", "ID"].map(str::to_owned)];
    for point in &object.lightcurve {
        let sign = if point.negative { " (fainter)" } else { "" };
        rows.push([
            number(point.mjd_tai, 5),
            point.band.to_string(),
            format!("{}{}{sign}", point.kind, if point.alert { ", alert" } else { "" }),
            number(point.magnitude, 3),
            number(point.magnitude_error, 3),
            number(point.limit, 2),
            number(point.flux_njy, 1),
            point.id.clone(),
        ]);
    }
    columns(&rows)
}
