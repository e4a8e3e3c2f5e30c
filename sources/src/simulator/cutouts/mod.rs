//! Cutouts: what an alert's scene looks like, painted pixel by pixel and written as the surveys write it.
//!
//! ZTF: 63 x 63 pixels in a FITS file, in gzip; counts. LSST: a FITS file of three HDUs (the image, its variance, the
//! point spread function); nJy. North is up and east is left. Science is the template's sources, the change, and noise.

mod deflate;
mod fits;
pub mod paint;

#[cfg(test)]
mod tests;

use deflate::Packer;
use fits::Header;
use paint::{Form, Moffat, Pictures};

use super::seen::{Image, Scene, Seen, Shape, Source, Telescope};

/// Pixels on a side of LSST's picture of the point spread function.
const PSF_SIDE: usize = 41;
/// Electrons of a count, ZTF's; and nJy are as fine as can be.
const ZTF_GAIN: f32 = 6.2;

/// Paints and writes the cutouts of alerts, and keeps its memory from one to the next.
#[derive(Clone)]
pub struct Cutouts {
    telescope: Telescope,
    pictures: Pictures,
    psf: Pictures,
    packer: Packer,
    header: Vec<u8>,
    plain: Vec<u8>,
    files: [Vec<u8>; 3],
}

impl Cutouts {
    /// Cutouts of `side` by `side` pixels.
    #[must_use]
    pub fn new(telescope: Telescope, side: usize) -> Self {
        let header = Header::default().card("SIMPLE", "T", "").image(-32, side).card("BUNIT", "'DN      '", "").blocks();
        Self {
            telescope,
            pictures: Pictures::new(side),
            psf: Pictures::new(PSF_SIDE),
            packer: Packer::default(),
            header,
            plain: Vec::new(),
            files: Default::default(),
        }
    }

    /// Pictures of the alert: science, template and difference, in counts (ZTF) or nJy (LSST).
    pub fn paint(&mut self, seen: &Seen) -> &Pictures {
        let scene = scene(self.telescope, &seen.scene);
        self.pictures.paint(&scene, &[seen.scene.noise_seed]);
        &self.pictures
    }

    /// The alert's files: science, template and difference.
    pub fn files(&mut self, seen: &Seen) -> &[Vec<u8>; 3] {
        self.paint(seen);
        for which in 0..3 {
            self.files[which].clear();
            match self.telescope {
                Telescope::Ztf => self.ztf(which),
                Telescope::Lsst => self.lsst(which, seen),
            }
        }
        &self.files
    }

    fn ztf(&mut self, which: usize) {
        self.plain.clear();
        self.plain.extend_from_slice(&self.header);
        fits::floats(&self.pictures.pixels[which], &mut self.plain);
        self.packer.gzip(&self.plain, &mut self.files[which]);
    }

    fn lsst(&mut self, which: usize, seen: &Seen) {
        let (file, side) = (&mut self.files[which], self.pictures.side);
        let (pixel, middle) = (seen.scene.pixel_arcsec, seen.scene.middle_arcsec);
        let centre = (side / 2) as f64 + 1.0;
        let header = Header::default()
            .card("SIMPLE", "T", "")
            .image(-32, side)
            .card("EXTEND", "T", "")
            .card("BUNIT", "'nJy     '", "")
            .card("WCSAXES", "2", "")
            .card("CTYPE1", "'RA---TAN'", "")
            .card("CTYPE2", "'DEC--TAN'", "")
            .number("CRPIX1", centre + middle[0] / pixel, "")
            .number("CRPIX2", centre - middle[1] / pixel, "")
            .number("CDELT1", -pixel / 3600.0, "deg")
            .number("CDELT2", pixel / 3600.0, "deg")
            .number("CRVAL1", seen.truth.ra_deg, "deg")
            .number("CRVAL2", seen.truth.dec_deg, "deg")
            .card("RADESYS", "'ICRS    '", "");
        file.extend(header.blocks());
        fits::floats(&self.pictures.pixels[which], file);
        let image = |bitpix, side, name| {
            let cards = Header::default().card("XTENSION", "'IMAGE   '", "").image(bitpix, side);
            cards.card("PCOUNT", "0", "").card("GCOUNT", "1", "").card("EXTNAME", name, "").blocks()
        };
        let [science, template] = [seen.scene.science, seen.scene.template].map(|image| (image.noise_njy * image.noise_njy) as f32);
        let variance = [science, template, science + template][which];
        file.extend(image(-32, side, "'UNCERT  '"));
        fits::floats(&vec![variance; side * side], file);
        file.extend(image(-64, PSF_SIDE, "'PSFIMAGE'"));
        let fwhm = if which == 1 { seen.scene.template.fwhm_arcsec } else { seen.scene.science.fwhm_arcsec };
        self.psf.point((fwhm / pixel) as f32);
        fits::doubles(&self.psf.pixels[0], file);
    }
}

/// The scene in pixels, and in counts or nJy. The picture's x grows to the west, its y to the north.
fn scene(telescope: Telescope, scene: &Scene) -> paint::Scene {
    let pixel = scene.pixel_arcsec;
    let counts = |image: &Image| match telescope {
        Telescope::Ztf => libm::pow(10.0, 0.4 * (image.zero_point_mag - 31.4)),
        Telescope::Lsst => 1.0,
    };
    let (science, template) = (counts(&scene.science), counts(&scene.template));
    // Both on the science image's scale, as a subtraction brings them.
    let scale = science / template;
    let at = |east: f64, north: f64| [(scene.middle_arcsec[0] - east) / pixel, (north - scene.middle_arcsec[1]) / pixel].map(|x| x as f32);
    let place = |source: &Source, shift: f64| {
        at(source.east_arcsec + shift * source.shift_arcsec[0], source.north_arcsec + shift * source.shift_arcsec[1])
    };
    let sources = |shift: f64, flux: fn(&Source) -> f64| -> Vec<paint::Source> {
        let lit = scene.sources.iter().filter(|source| flux(source) != 0.0);
        lit.map(|source| paint::Source {
            at: place(source, shift),
            flux: (flux(source) * science) as f32,
            form: form(&source.shape, pixel),
        })
        .collect()
    };
    let widths = [&scene.science, &scene.template].map(|image| Moffat::new((image.fwhm_arcsec / pixel) as f32));
    let difference = scene.sources.iter().flat_map(|source| {
        let of =
            |flux: f64, shift| paint::Source { at: place(source, shift), flux: (flux * science) as f32, form: form(&source.shape, pixel) };
        let aligned = source.shift_arcsec == [0.0, 0.0];
        let parts = if aligned {
            [Some(of(source.science_njy - source.template_njy, 0.0)), None]
        } else {
            [Some(of(source.science_njy, 1.0)), Some(of(-source.template_njy, 0.0))]
        };
        parts.into_iter().flatten().filter(|part| part.flux != 0.0)
    });
    paint::Scene {
        difference: difference.collect(),
        science: sources(1.0, |source| source.science_njy),
        template: sources(0.0, |source| source.template_njy),
        widths,
        sky: [scene.science.sky_njy * science, scene.template.sky_njy * template * scale].map(|sky| sky as f32),
        noise: [scene.science.noise_njy * science, scene.template.noise_njy * science].map(|width| width as f32),
        grain: match telescope {
            Telescope::Ztf => 1.0 / ZTF_GAIN,
            Telescope::Lsst => 0.0,
        },
    }
}

fn form(shape: &Shape, pixel: f64) -> Form {
    // Degrees from north through east, as a direction in the picture.
    let half = |length_pixels: f64, angle_deg: f64| {
        let angle = angle_deg * std::f64::consts::PI / 180.0;
        [-libm::sin(angle) * length_pixels / 2.0, libm::cos(angle) * length_pixels / 2.0].map(|x| x as f32)
    };
    match *shape {
        Shape::Point => Form::Star,
        Shape::Galaxy { half_light_arcsec, index, axis_ratio, angle_deg } => {
            // The profile has wings between those of a disc and of an elliptical; a high index is drawn more compact.
            let radius = half_light_arcsec / pixel / (1.0 + 0.1 * (index - 1.0).max(0.0));
            Form::Galaxy { radius: radius as f32, axis: half(2.0, angle_deg), ratio: axis_ratio as f32 }
        }
        Shape::Trail { length_arcsec, angle_deg } => Form::Streak { half: half(length_arcsec / pixel, angle_deg) },
        Shape::CosmicRay { length_pixels, angle_deg } => Form::CosmicRay { half: half(length_pixels, angle_deg) },
    }
}
