//! Makes the settings of the services of a configuration: which catalogues, and how they are read.

use std::path::PathBuf;
use std::time::Duration;

use fink_operators::catalogue::{CatalogueId, Layout, MotionColumns, PositionFormat};

use super::keys::CatalogueSection;
use super::resolve::readable_file;
use super::{ConfigError, Configured};
use crate::own::Own;
use crate::services::Chosen;
use crate::services::catalogues::declared::FIRST_ID;
use crate::services::catalogues::{CatalogueFile, format_of};
use crate::services::start::ServicesRun;

impl Configured {
    /// What these services are told to do.
    pub(super) fn services(&self, chosen: &Chosen, own: &[Own]) -> Result<ServicesRun, ConfigError> {
        let services = &self.config.services;
        let known: Vec<&str> = services.catalogues.iter().flatten().map(|(name, _)| name.as_str()).collect();
        if let Some(name) = services.classes.iter().find(|name| !known.contains(&name.as_str())) {
            let what = format!("there is no catalogue `{name}`{}", super::read::suggestion(name, &known));
            return Err(self.wrong("services.classes", what));
        }
        let mut catalogues = Vec::new();
        for (number, (name, catalogue)) in (0..FIRST_ID).zip(services.catalogues.iter().flatten()) {
            let rank = services.classes.iter().position(|class| class == name).and_then(|rank| u16::try_from(rank).ok());
            if rank.is_some() && catalogue.carry.is_empty() {
                return Err(self.wrong("services.classes", format!("the catalogue `{name}` carries no column that could be a class")));
            }
            let id = rank.map_or(CatalogueId::untyped(number), CatalogueId::typed);
            let file = catalogue_file(id, name, catalogue);
            catalogues.push(file.map_err(|what| self.wrong("services.catalogues", format!("{name}: {what}")))?);
        }
        // Places of one object scatter less than this; beyond, everything is near everything.
        if services.associate_arcsec > 3_600.0 {
            return Err(self.wrong("services.associate_arcsec", "is more than a degree"));
        }
        if !(services.tables_every_s >= 1.0 && services.tables_every_s <= 86_400.0) {
            return Err(self.wrong("services.tables_every_s", "is not between a second and a day"));
        }
        let tables_every = services.tables.then(|| Duration::from_secs_f64(services.tables_every_s));
        let (chosen, own, associate_arcsec, light_rows) = (chosen.clone(), own.to_vec(), services.associate_arcsec, services.light_rows);
        let memory_nights = match services.memory_nights {
            Some(0) => return Err(self.wrong("services.memory_nights", "is 0: the latest night's objects stay in memory")),
            nights => nights.map(|nights| usize::try_from(nights).unwrap_or(usize::MAX)),
        };
        Ok(ServicesRun { chosen, catalogues, associate_arcsec, own, light_rows, memory_nights, tables_every, left_out: None })
    }
}

/// A declared catalogue, if it can be read so.
pub(crate) fn catalogue_file(id: CatalogueId, name: &str, of: &CatalogueSection) -> Result<CatalogueFile, String> {
    let path = PathBuf::from(&of.path);
    readable_file(&path)?;
    let format = format_of(&path).ok_or_else(|| format!("{}: known are .parquet, .csv, .fits and .vot", path.display()))?;
    if !(of.radius_arcsec > 0.0 && of.radius_arcsec <= 3_600.0) {
        return Err(format!("radius_arcsec = {} is not between 0 and a degree", of.radius_arcsec));
    }
    let motion = match (&of.pm_ra, &of.pm_dec, of.epoch) {
        (Some(ra), Some(dec), Some(epoch)) => Some(MotionColumns { ra: ra.clone(), dec: dec.clone(), epoch }),
        (None, None, None) => None,
        _ => return Err("pm_ra, pm_dec and epoch go together".to_owned()),
    };
    let layout = Layout {
        id,
        format,
        ra: of.ra.clone(),
        dec: of.dec.clone(),
        position: if of.sexagesimal { PositionFormat::Sexagesimal } else { PositionFormat::Degrees },
        radius_arcsec: of.radius_arcsec,
        carry: of.carry.clone(),
        motion,
    };
    Ok(CatalogueFile { name: name.to_owned(), path, layout })
}

#[cfg(test)]
mod tests {
    use super::super::tests::configured;
    use super::*;

    fn services(text: &str) -> Result<ServicesRun, String> {
        let chosen = Chosen::default();
        configured(text, Vec::new()).and_then(|c| c.services(&chosen, &[])).map_err(|error| error.to_string())
    }

    #[test]
    fn catalogues_are_declared_in_tables_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (csv, other) = (folder.path().join("a.csv"), folder.path().join("b.txt"));
        std::fs::write(&csv, "ra,dec,type\n").expect("written");
        std::fs::write(&other, "").expect("written");
        let table = |path: &std::path::Path, more: &str| {
            format!("[services.catalogues.stars]\npath = \"{}\"\nra = \"ra\"\ndec = \"dec\"\nradius_arcsec = 1.5\n{more}", path.display())
        };
        let right = services(&table(&csv, "carry = [\"type\"]\n[services]\nclasses = [\"stars\"]\n")).expect("right");
        assert_eq!((right.catalogues[0].name.as_str(), right.catalogues[0].layout.id), ("stars", CatalogueId::typed(0)));
        let wrong = |text: &str| services(text).expect_err("wrong");
        assert!(wrong(&table(&other, "")).contains("known are .parquet"), "{}", wrong(&table(&other, "")));
        assert!(wrong(&table(&csv, "epoch = 2000\n")).contains("go together"));
        let no_column = wrong(&table(&csv, "[services]\nclasses = [\"stars\"]\n"));
        assert!(no_column.contains("carries no column"), "{no_column}");
        let unknown = wrong("[services]\nclasses = [\"gcvs\"]\n");
        assert!(unknown.starts_with("fink.toml:2: services.classes: there is no catalogue `gcvs`"), "{unknown}");
        assert!(wrong(&table(&csv, "radius = 3\n")).contains("unknown field `radius`"));
    }
}
