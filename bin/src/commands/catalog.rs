//! `fink catalog`: the catalogues that objects are looked up in, declared in the archive, and changed while services run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use fink_dataflow::table::store;
use fink_operators::catalogue::CatalogueId;
use indicatif::HumanCount;

use super::ask::look;
use super::show::columns;
use crate::cli::ArchiveArgs;
use crate::config::keys::CatalogueSection;
use crate::config::read::suggestion;
use crate::config::{Configured, catalogue_file};
use crate::rundir::RunDir;
use crate::services::answers::{Answer, CataloguesAnswer};
use crate::services::catalogues::declared::{Declaration, Declarations, Declared, Read};
use crate::services::catalogues::feed::answer;
use crate::services::catalogues::register::CatalogueAnswer;

const EXAMPLES: &str = "\
Examples:
  fink catalog add gcvs gcvs.parquet --ra ra --dec dec --radius 1.5 --carry VarType --classes
      objects within 1.5 arcsec of a row match it; its VarType is their class, where they have no better one
  fink catalog add 3hsp 3hsp.csv --ra R.A. --dec Dec --sexagesimal --radius 60 --carry '3HSP Source name'
      positions as 12 55 17.1 +29 35 34: hours and degrees
  fink catalog add gaia gaia.fits --ra ra --dec dec --radius 1 --pm-ra pmra --pm-dec pmdec --epoch 2016
      stars that move: looked up where they were when the object was seen
  fink catalog list
  fink catalog update gcvs gcvs-2027.parquet
      a new version: only the rows that differ are published
  fink catalog update gcvs --radius 2
  fink catalog remove gcvs

A catalogue is kept in the archive, with its rows, for every process that answers for it; the file is read by this command
alone, and not needed again. Services that run take a change up at once: past matches, classes and counts are corrected,
and from one Moment on all answers know it. Those that start later find it there. Catalogues of fink.toml are read at
the start only, and are changed there.";

/// Catalogues that objects are looked up in: add, list, update and remove them, also while services run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CatalogArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add a catalogue
    Add(AddArgs),
    /// List the catalogues: rows, version, and since which Moment each counts
    List(ListArgs),
    /// Read a new version of a catalogue's file, or change how it is read
    Update(UpdateArgs),
    /// Remove a catalogue: its matches are withdrawn
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// What it is called in answers
    name: String,
    /// Its file: .parquet, .csv, .fits or .vot
    file: PathBuf,
    #[command(flatten)]
    how: DeclareArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// The catalogue
    name: String,
    /// Its new version [default: the file that it was read from]
    file: Option<PathBuf>,
    #[command(flatten)]
    how: DeclareArgs,
}

/// How a catalogue is declared, the first time and later.
#[derive(Debug, Args)]
struct DeclareArgs {
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The catalogue
    name: String,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct WaitArgs {
    /// Do not wait until the services that run know it
    #[arg(long)]
    no_wait: bool,
}

/// How a file is read; the same keys as in fink.toml.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "How the file is read")]
struct ReadingArgs {
    /// The column of right ascension
    #[arg(long, value_name = "COLUMN")]
    ra: Option<String>,
    /// The column of declination
    #[arg(long, value_name = "COLUMN")]
    dec: Option<String>,
    /// How near an object must be, in arcseconds
    #[arg(long, value_name = "ARCSEC")]
    radius: Option<f64>,
    /// The columns that a match tells, a,b (may be given again); the first is the type
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    carry: Vec<String>,
    /// Positions are sexagesimal, right ascension in hours
    #[arg(long, conflicts_with = "degrees")]
    sexagesimal: bool,
    /// Positions are in degrees (as they are if nothing is said)
    #[arg(long)]
    degrees: bool,
    /// The column of proper motion in right ascension, times the cosine of the declination, in milliarcseconds a year
    #[arg(long, value_name = "COLUMN", requires = "pm_dec")]
    pm_ra: Option<String>,
    /// The column of proper motion in declination, in milliarcseconds a year
    #[arg(long, value_name = "COLUMN", requires = "epoch")]
    pm_dec: Option<String>,
    /// The Julian year of the positions, such as 2016
    #[arg(long, value_name = "YEAR", requires = "pm_ra")]
    epoch: Option<f64>,
    /// The first carried column is a class; catalogues that were added earlier count more, and those of fink.toml most
    #[arg(long, conflicts_with = "no_classes")]
    classes: bool,
    /// It says nothing of classes (as if nothing is said)
    #[arg(long)]
    no_classes: bool,
}

impl ReadingArgs {
    /// The section of fink.toml that says the same, laid over what was said before.
    fn over(&self, before: Option<&Declared>, file: Option<&Path>) -> anyhow::Result<(CatalogueSection, bool)> {
        let Self { ra, dec, radius, carry, sexagesimal, degrees, pm_ra, pm_dec, epoch, classes, no_classes } = self;
        let was = before.map(|declared| declared.reading.clone());
        let path = match (file, &was) {
            (Some(file), _) => std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string(),
            (None, Some(was)) => was.path.clone(),
            (None, None) => bail!("name its file"),
        };
        let column = |given: &Option<String>, was: Option<&String>, flag: &str| {
            given.as_ref().or(was).cloned().with_context(|| format!("{flag} COLUMN is needed: the name of the column"))
        };
        let reading = CatalogueSection {
            path,
            ra: column(ra, was.as_ref().map(|was| &was.ra), "--ra")?,
            dec: column(dec, was.as_ref().map(|was| &was.dec), "--dec")?,
            sexagesimal: *sexagesimal || (!degrees && was.as_ref().is_some_and(|was| was.sexagesimal)),
            radius_arcsec: radius.or(was.as_ref().map(|was| was.radius_arcsec)).context("--radius ARCSEC is needed")?,
            carry: if carry.is_empty() { was.as_ref().map(|was| was.carry.clone()).unwrap_or_default() } else { carry.clone() },
            pm_ra: pm_ra.clone().or_else(|| was.as_ref()?.pm_ra.clone()),
            pm_dec: pm_dec.clone().or_else(|| was.as_ref()?.pm_dec.clone()),
            epoch: epoch.or_else(|| was.as_ref()?.epoch),
        };
        let classes = *classes || (!no_classes && before.is_some_and(|declared| declared.classes));
        if classes && reading.carry.is_empty() {
            bail!("--classes needs --carry: the first column that is carried is the class");
        }
        Ok((reading, classes))
    }
}

/// Runs it.
///
/// # Errors
/// When a file or the archive can't be read, or there is no such catalogue.
pub fn run(args: &CatalogArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Add(AddArgs { name, file, how }) => {
            named(name)?;
            change(how, name, Some(file), true)
        }
        What::Update(UpdateArgs { name, file, how }) => change(how, name, file.as_deref(), false),
        What::Remove(args) => remove(args),
        What::List(args) => list(args),
    }
}

fn named(name: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "_-.+ ".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name.trim() != name {
        bail!("`{name}` is no name for a catalogue: take letters, digits, _, -, + and dots, at most 64");
    }
    Ok(())
}

fn open(args: &ArchiveArgs) -> anyhow::Result<(Configured, Declarations, String)> {
    let configured = args.load()?;
    let archive = store::open(&configured.archive()?, &configured.store()?)?;
    Ok((configured, Declarations::of(&archive), archive.place()))
}

/// The declared catalogue of this name.
fn find<'d>(declaration: &'d Declaration, configured: &Configured, name: &str) -> anyhow::Result<&'d Declared> {
    declaration.find(name).with_context(|| {
        if configured.config.services.catalogues.iter().flatten().any(|(own, _)| own == name) {
            return format!("the catalogue `{name}` is declared in fink.toml: change it there, and start the services again");
        }
        let known: Vec<&str> = declaration.catalogues.iter().map(|declared| declared.name.as_str()).collect();
        let hint = if known.is_empty() { "; none is declared: fink catalog add".to_owned() } else { suggestion(name, &known) };
        format!("there is no catalogue `{name}`{hint}")
    })
}

/// Declares a catalogue: adds it, or updates the one of this name.
fn change(how: &DeclareArgs, name: &str, file: Option<&Path>, add: bool) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let DeclareArgs { reading, archive, wait } = how;
    let (configured, declarations, place) = open(archive)?;
    loop {
        let last = declarations.last()?;
        let before = if add { None } else { Some(find(&last, &configured, name)?) };
        if add && last.find(name).is_some() {
            bail!("there is a catalogue `{name}` already: fink catalog update {name} FILE");
        }
        if add && configured.config.services.catalogues.iter().flatten().any(|(own, _)| own == name) {
            bail!("the catalogue `{name}` is declared in fink.toml: remove it there first, or take another name");
        }
        let (section, classes) = reading.over(before, file)?;
        let described = catalogue_file(CatalogueId::default(), name, &section).map_err(|what| anyhow::anyhow!("{name}: {what}"))?;
        let found = described.read()?;
        if found.rows.is_empty() {
            bail!("catalogue {name}: {}: none of its {} rows has a place on the sky", section.path, found.placeless);
        }
        let read_s = began.elapsed().as_secs_f64();
        let same = before.map(|before| (before.reading.clone(), before.classes, before.version));
        let next = declarations.draft(&last, name, Read { reading: section.clone(), classes, found })?;
        let declared = next.find(name).expect("it was drafted").clone();
        if let (Some((reading, was, _)), Some(changes)) = (same, &declared.changes)
            && changes.came + changes.went == 0
            && reading == section
            && was == classes
        {
            println!("{name}: {} rows, nothing changed", HumanCount(declared.rows));
            return Ok(ExitCode::SUCCESS);
        }
        let word = if add { "add" } else { "update" };
        if declarations.put(&last, next, &format!("{word} {name}"))? {
            let without = if declared.without_place > 0 {
                format!(", {} without a place", HumanCount(declared.without_place))
            } else {
                String::new()
            };
            let differs = declared
                .changes
                .as_ref()
                .map_or(String::new(), |changes| format!("; {} rows came and {} went", HumanCount(changes.came), HumanCount(changes.went)));
            println!("{name}: {} rows{without}{differs}; read in {read_s:.2} s", HumanCount(declared.rows));
            return taken_up(&place, wait, name, Some(declared.version), began);
        }
        // Another command was first: what it declared is looked at, and this one tried again.
    }
}

fn remove(args: &RemoveArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let (configured, declarations, place) = open(&args.archive)?;
    loop {
        let last = declarations.last()?;
        let rows = find(&last, &configured, &args.name)?.rows;
        let mut next = last.clone();
        next.catalogues.retain(|declared| declared.name != args.name);
        if declarations.put(&last, next, &format!("remove {}", args.name))? {
            println!("{}: {} rows removed", args.name, HumanCount(rows));
            return taken_up(&place, &args.wait, &args.name, None, began);
        }
    }
}

/// The processes of this machine that answer for an archive, and what each says of its catalogues.
fn asked(place: &str) -> Vec<(String, Answer<CataloguesAnswer>)> {
    let running = RunDir::usual().running();
    let addresses = running.into_iter().filter(|status| !status.services.is_empty()).filter_map(|status| status.http);
    let ask = |address: String| {
        let answer = look::<Answer<CataloguesAnswer>>(&address, "/api/v1/catalogs", &[]).ok()??;
        (answer.answer.archive == place).then_some((address, answer))
    };
    addresses.filter_map(ask).collect()
}

/// How long services have to take a change up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until the services that run know a version of a catalogue (`None`: that it is gone), and says since when.
fn taken_up(place: &str, wait: &WaitArgs, name: &str, version: Option<u64>, began: Instant) -> anyhow::Result<ExitCode> {
    let declared = Instant::now();
    if wait.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    if asked(place).is_empty() {
        println!("no services run here for {place}: they take it up when they start");
        return Ok(ExitCode::SUCCESS);
    }
    while declared.elapsed() < PATIENCE {
        let all = asked(place);
        for (address, answer) in &all {
            let known = answer.answer.catalogues.iter().find(|catalogue| catalogue.name == name && catalogue.version >= version);
            if let Some(why) = known.and_then(|catalogue| catalogue.failed.as_ref()).filter(|_| version.is_some()) {
                bail!("{address}: {why}");
            }
        }
        let counts = |(_, answer): &(String, Answer<CataloguesAnswer>)| {
            let known = answer.answer.catalogues.iter().find(|catalogue| catalogue.name == name);
            match (known, version) {
                (None, None) => Some(None),
                (Some(known), Some(version)) if known.version >= Some(version) && known.state == "counts" => Some(Some(known.clone())),
                _ => None,
            }
        };
        if let Some(known) = all.iter().map(counts).collect::<Option<Vec<_>>>() {
            let (took, all) = (declared.elapsed().as_secs_f64(), began.elapsed().as_secs_f64());
            for known in known {
                match known.as_ref().and_then(|known| Some((known.since.as_ref()?, ticks(known)))) {
                    Some((since, Some(ticks))) => {
                        println!("counts since Moment {since}: {ticks} ticks, {took:.2} s after it was declared; {all:.2} s in all")
                    }
                    Some((since, None)) => println!("counts since Moment {since}; {all:.2} s in all"),
                    None => println!("withdrawn {took:.2} s after it was declared"),
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("declared, but the services do not know it after {PATIENCE:?}: fink catalog list says how far they are")
}

/// Ticks from the last Moment before a change was noticed to the first that knows it.
fn ticks(known: &CatalogueAnswer) -> Option<u64> {
    let tick = |moment: &Option<String>| moment.as_deref()?.split_once('.')?.1.parse::<u64>().ok();
    Some(tick(&known.since)?.saturating_sub(tick(&known.noticed)?))
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let (configured, declarations, place) = open(&args.archive)?;
    let declaration = declarations.last()?;
    let mut all: Vec<CatalogueAnswer> = declaration.catalogues.iter().map(answer).collect();
    for (name, section) in configured.config.services.catalogues.iter().flatten() {
        all.push(CatalogueAnswer {
            name: name.clone(),
            declared: "fink.toml".to_owned(),
            file: section.path.clone(),
            radius_arcsec: section.radius_arcsec,
            carry: section.carry.clone(),
            classes: configured.config.services.classes.contains(name),
            state: "declared".to_owned(),
            ..CatalogueAnswer::default()
        });
    }
    let running = asked(&place);
    if let Some((_, answer)) = running.first() {
        let known = &answer.answer.catalogues;
        all.retain(|mine| known.iter().all(|theirs| theirs.name != mine.name));
        all.extend(known.iter().cloned());
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let moment = running.first().map(|(_, answer)| answer.moment.clone());
    if args.json {
        println!("{}", serde_json::json!({ "archive": place, "moment": moment, "catalogues": all }));
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", table(&all));
    match moment {
        Some(moment) => println!("as the services of {place} have it at Moment {moment}"),
        None => println!("no services run here for {place}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[CatalogueAnswer]) -> String {
    if all.is_empty() {
        return "no catalogue is declared: fink catalog add\n".to_owned();
    }
    let mut rows = vec![["NAME", "ROWS", "NO PLACE", "RADIUS", "TELLS", "VERSION", "SINCE", "STATE", "FILE"].map(str::to_owned)];
    for catalogue in all {
        let known = catalogue.rows + catalogue.without_place > 0;
        let count = |n: u64| if known { HumanCount(n).to_string() } else { "-".to_owned() };
        let tells = catalogue.carry.join(",") + if catalogue.classes { " (class)" } else { "" };
        rows.push([
            catalogue.name.clone(),
            count(catalogue.rows),
            count(catalogue.without_place),
            format!("{}\"", catalogue.radius_arcsec),
            if tells.is_empty() { "-".to_owned() } else { tells },
            catalogue.version.map_or_else(|| catalogue.declared.clone(), |version| version.to_string()),
            catalogue.since.clone().unwrap_or_else(|| "-".to_owned()),
            catalogue.state.clone(),
            catalogue.file.clone(),
        ]);
    }
    let mut text = columns(&rows);
    for why in all.iter().filter_map(|catalogue| catalogue.failed.as_ref()) {
        text += &format!("{why}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_counted_in_ticks() {
        let known = CatalogueAnswer { noticed: Some("3.17".to_owned()), since: Some("4.19".to_owned()), ..CatalogueAnswer::default() };
        assert_eq!(ticks(&known), Some(2));
        assert_eq!(ticks(&CatalogueAnswer::default()), None);
    }

    #[test]
    fn what_is_not_said_again_stays() {
        let args = ReadingArgs { ra: Some("a".to_owned()), dec: Some("d".to_owned()), radius: Some(2.0), ..ReadingArgs::default() };
        let (reading, classes) = args.over(None, Some(Path::new("/x/y.csv"))).expect("all is said");
        assert!(!classes && !reading.sexagesimal && reading.path == "/x/y.csv");
        let before = Declared {
            name: "y".to_owned(),
            id: CatalogueId::untyped(3),
            reading,
            classes: false,
            version: 1,
            rows: 1,
            without_place: 0,
            next_row: 1,
            file: String::new(),
            changes: None,
        };
        let more = ReadingArgs { carry: vec!["kind".to_owned()], classes: true, sexagesimal: true, ..ReadingArgs::default() };
        let (now, classes) = more.over(Some(&before), None).expect("the rest was said before");
        assert!(classes && now.sexagesimal && now.ra == "a" && now.radius_arcsec == 2.0 && now.carry == ["kind"]);
        let error = ReadingArgs { classes: true, ..ReadingArgs::default() }.over(Some(&before), None).expect_err("no column");
        assert!(error.to_string().contains("--carry"), "{error}");
        assert!(ReadingArgs::default().over(None, Some(Path::new("y"))).expect_err("nothing is said").to_string().contains("--ra"));
        assert!(named("3hsp").is_ok() && named("a/b").is_err() && named("").is_err());
    }
}
