//! What a telescope's three pictures of one place show: template, science, difference.
//!
//! Science is the template's sources, and the change, and noise; the difference is science less template, the template
//! brought to the science image's seeing. Light spreads as a
//! Moffat profile of index 2.5, (1 + r^2/a^2)^-2.5 with a full width at half maximum of 1.1305 a (Moffat 1969, A&A 3, 455):
//! what the atmosphere makes of a point. Only operations that IEEE 754 rounds exactly are used, so that every machine
//! paints the same bits.

use super::super::dice::Dice;

/// a / FWHM of a Moffat profile of index 2.5: 1 / (2 sqrt(2^(1/2.5) - 1)).
const MOFFAT_WIDTH: f32 = 0.884_563_2;

/// What there is to see at one place, in pixels and in the picture's unit of flux; places are relative to the middle pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// What shines now.
    pub science: Vec<Source>,
    /// What shone when the template was made.
    pub template: Vec<Source>,
    /// What the template, brought to the science image's seeing, leaves of them: their differences.
    pub difference: Vec<Source>,
    /// The point spread in science and template.
    pub widths: [Moffat; 2],
    /// The sky in science and template.
    pub sky: [f32; 2],
    /// Width of the noise of a pixel of sky in science and template.
    pub noise: [f32; 2],
    /// How the noise of the science image grows where light is: variance = noise^2 + flux * this.
    pub grain: f32,
}

/// A Moffat profile of index 2.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moffat {
    /// Its width a, pixels.
    a: f32,
}

impl Moffat {
    /// The profile of this full width at half maximum, in pixels (at least half a pixel).
    #[must_use]
    pub fn new(fwhm: f32) -> Self {
        Self { a: MOFFAT_WIDTH * fwhm.max(0.5) }
    }
}

/// Something that shines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// Where: x and y, in pixels from the centre.
    pub at: [f32; 2],
    /// All of its light.
    pub flux: f32,
    /// Its form.
    pub form: Form,
}

/// What something that shines looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// A point, as wide as the seeing.
    Star,
    /// A galaxy: an ellipse of this half-light radius (pixels), with the cosine and sine of its long axis, and the ratio
    /// of its axes.
    Galaxy {
        /// Half-light radius along the long axis, in pixels.
        radius: f32,
        /// Direction of the long axis: cosine and sine.
        axis: [f32; 2],
        /// Short axis over long axis.
        ratio: f32,
    },
    /// A point that moved while the shutter was open, from `-half` to `+half`.
    Streak {
        /// Half its way, x and y, in pixels.
        half: [f32; 2],
    },
    /// What hit the detector and not the mirror: sharp, one pixel wide, from `-half` to `+half`.
    CosmicRay {
        /// Half its way, x and y, in pixels.
        half: [f32; 2],
    },
}

/// Three pictures of `side` by `side` pixels, row by row, the centre in the middle pixel (`side / 2`).
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Pixels on a side.
    pub side: usize,
    /// Science, template, difference.
    pub pixels: [Vec<f32>; 3],
}

impl Pictures {
    /// Black pictures.
    #[must_use]
    pub fn new(side: usize) -> Self {
        Self { side, pixels: std::array::from_fn(|_| vec![0.0; side * side]) }
    }

    /// Paints the scene, its noise a function of `seed`.
    pub fn paint(&mut self, scene: &Scene, seed: &[u64]) {
        let mut noise = Noise::new(seed);
        let [science, template, difference] = &mut self.pixels;
        let [wide, template_wide] = scene.widths;
        let layers = [(&mut *science, &scene.science, wide), (&mut *template, &scene.template, template_wide)];
        for (pixels, sources, width) in layers.into_iter().chain([(&mut *difference, &scene.difference, wide)]) {
            pixels.fill(0.0);
            sources.iter().for_each(|source| add(pixels, self.side, source, width));
        }
        let [variance, template_variance] = scene.noise.map(|width| width * width);
        for ((science, template), difference) in science.iter_mut().zip(template).zip(difference) {
            let of_template = template_variance.sqrt() * noise.next();
            let of_science = (variance + scene.grain * science.max(0.0)).sqrt() * noise.next();
            *difference += of_science - of_template;
            *science += of_science + scene.sky[0];
            *template += of_template + scene.sky[1];
        }
    }

    /// Paints the profile itself into the first picture, its sum 1.
    pub(super) fn point(&mut self, fwhm: f32) {
        let point = Source { at: [0.0, 0.0], flux: 1.0, form: Form::Star };
        self.pixels[0].fill(0.0);
        add(&mut self.pixels[0], self.side, &point, Moffat::new(fwhm));
        let sum: f32 = self.pixels[0].iter().sum();
        self.pixels[0].iter_mut().for_each(|pixel| *pixel /= sum);
    }
}

/// Adds a source's light.
fn add(pixels: &mut [f32], side: usize, source: &Source, Moffat { a }: Moffat) {
    let centre = (side / 2) as f32;
    let [x0, y0] = [centre + source.at[0], centre + source.at[1]];
    let rows = pixels.chunks_exact_mut(side).enumerate();
    match source.form {
        Form::Star => {
            let (inverse, peak) = (1.0 / (a * a), source.flux * moffat_peak(a, a));
            for (y, row) in rows {
                let dy = y as f32 - y0;
                for (x, pixel) in row.iter_mut().enumerate() {
                    let dx = x as f32 - x0;
                    *pixel += peak * moffat((dx * dx + dy * dy) * inverse);
                }
            }
        }
        Form::Galaxy { radius, axis: [cos, sin], ratio } => {
            // Half the light of this profile lies within 0.766 a; the seeing is added in quadrature.
            let wide = |radius: f32| (radius * radius / (0.766 * 0.766) + a * a).sqrt();
            let (long, short) = (wide(radius), wide(radius * ratio));
            let peak = source.flux * moffat_peak(long, short);
            for (y, row) in rows {
                let dy = y as f32 - y0;
                for (x, pixel) in row.iter_mut().enumerate() {
                    let dx = x as f32 - x0;
                    let (u, v) = ((dx * cos + dy * sin) / long, (dy * cos - dx * sin) / short);
                    *pixel += peak * moffat(u * u + v * v);
                }
            }
        }
        Form::Streak { half } => {
            let length = 2.0 * (half[0] * half[0] + half[1] * half[1]).sqrt();
            // Along the way each step holds the profile's integral across it, 4/3 a; at the ends, half a point each.
            let peak = source.flux / (length * (4.0 / 3.0) * a + 1.0 / moffat_peak(a, a));
            let inverse = 1.0 / (a * a);
            for (y, row) in rows {
                for (x, pixel) in row.iter_mut().enumerate() {
                    *pixel += peak * moffat(distance_squared([x as f32 - x0, y as f32 - y0], half) * inverse);
                }
            }
        }
        Form::CosmicRay { half } => {
            let length = 2.0 * (half[0] * half[0] + half[1] * half[1]).sqrt() + 1.0;
            for (y, row) in rows {
                for (x, pixel) in row.iter_mut().enumerate() {
                    let away = distance_squared([x as f32 - x0, y as f32 - y0], half).sqrt();
                    *pixel += source.flux / length * (1.0 - away).max(0.0);
                }
            }
        }
    }
}

/// (1 + q)^-2.5.
fn moffat(q: f32) -> f32 {
    let width = 1.0 + q;
    1.0 / (width * width * width.sqrt())
}

/// The peak of a profile of index 2.5 that holds all light once: 1.5 / (pi a b).
fn moffat_peak(a: f32, b: f32) -> f32 {
    1.5 / (std::f32::consts::PI * a * b)
}

/// The square of the distance from `point` to the way from `-half` to `+half`.
fn distance_squared(point: [f32; 2], half: [f32; 2]) -> f32 {
    let along = half[0] * half[0] + half[1] * half[1];
    let share = if along > 0.0 { ((point[0] * half[0] + point[1] * half[1]) / along).clamp(-1.0, 1.0) } else { 0.0 };
    let (dx, dy) = (point[0] - share * half[0], point[1] - share * half[1]);
    dx * dx + dy * dy
}

/// Noise of mean 0 and width 1: sums of four even deviates of 16 bits, cut at 3.46.
struct Noise(Dice);

impl Noise {
    fn new(seed: &[u64]) -> Self {
        Self(Dice::new(seed))
    }

    fn next(&mut self) -> f32 {
        let bits = self.0.bits();
        // Exact in integers: four draws of 0..65536, less their mean.
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // The width of one is 65536 / sqrt(12), of four twice that.
        (sum as f32 - 131_070.0) * (1.732_050_8 / 65_536.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(template: Vec<Source>, science: Vec<Source>) -> Scene {
        let lost = template.iter().map(|source| Source { flux: -source.flux, ..*source });
        let difference = science.iter().copied().chain(lost).collect();
        Scene { template, science, difference, widths: [Moffat::new(2.0); 2], sky: [100.0, 90.0], noise: [0.0, 0.0], grain: 0.0 }
    }

    fn source(form: Form, flux: f32) -> Source {
        Source { at: [0.0, 0.0], flux, form }
    }

    const FORMS: [Form; 4] = [
        Form::Star,
        Form::Galaxy { radius: 3.0, axis: [0.8, 0.6], ratio: 0.5 },
        Form::Streak { half: [8.0, 3.0] },
        Form::CosmicRay { half: [3.0, 4.0] },
    ];

    #[test]
    fn every_form_holds_its_light() {
        for form in FORMS {
            let mut pictures = Pictures::new(201);
            pictures.paint(&quiet(vec![], vec![source(form, 1000.0)]), &[1]);
            let sum: f32 = pictures.pixels[2].iter().sum();
            assert!((sum / 1000.0 - 1.0).abs() < 0.05, "{form:?}: {sum}");
        }
    }

    #[test]
    fn science_is_template_and_change() {
        let galaxy = source(FORMS[1], 5000.0);
        let scene = quiet(vec![galaxy], vec![galaxy, Source { at: [1.0, -2.0], ..source(Form::Star, 800.0) }]);
        let mut pictures = Pictures::new(63);
        pictures.paint(&scene, &[1]);
        let [science, template, difference] = &pictures.pixels;
        for index in 0..63 * 63 {
            assert!((science[index] - 100.0 - (template[index] - 90.0) - difference[index]).abs() < 1e-2);
        }
        let brightest = (0..63 * 63).max_by(|a, b| difference[*a].total_cmp(&difference[*b])).unwrap();
        assert_eq!(brightest, (31 - 2) * 63 + 31 + 1);
    }

    #[test]
    fn noise_has_its_width_and_a_seed_of_its_own() {
        let scene = Scene { noise: [8.0, 2.0], ..quiet(vec![], vec![]) };
        let mut pictures = Pictures::new(63);
        pictures.paint(&scene, &[5]);
        for (pixels, [mean, width]) in pictures.pixels.iter().zip([[100.0, 8.0], [90.0, 2.0], [0.0, 68f64.sqrt()]]) {
            let n = pixels.len() as f64;
            let seen = pixels.iter().map(|pixel| f64::from(*pixel)).sum::<f64>() / n;
            let spread = (pixels.iter().map(|pixel| (f64::from(*pixel) - seen).powi(2)).sum::<f64>() / n).sqrt();
            assert!((seen - mean).abs() < 0.5 && (spread / width - 1.0).abs() < 0.05, "{seen} {spread}");
        }
        let mut other = Pictures::new(63);
        other.paint(&scene, &[6]);
        assert_ne!(other.pixels, pictures.pixels);
        other.paint(&scene, &[5]);
        assert_eq!(other.pixels, pictures.pixels);
    }
}
