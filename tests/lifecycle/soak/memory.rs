//! The memory of a process over time, and whether it grows. Samples of half a minute are averaged; a line is laid through the
//! averages after the warm-up, by least squares, and its slope is held against its standard error with Student's t at 95 %
//! (two-sided). Memory moves in steps, so that neighbouring averages are alike: as many count as would be independent
//! (Quenouille, 1952: n (1 - r) / (1 + r), with r the correlation of neighbours around the line).

use std::fmt;
use std::fs;
use std::time::Duration;

/// Pools and tables fill for this long.
const WARM_UP: Duration = Duration::from_secs(300);
/// One average.
const BLOCK: Duration = Duration::from_secs(30);
/// The most that the memory may grow after the warm-up, in MiB.
const GROWTH_MAX: f64 = 4.0;
/// The 97.5th percentile of Student's t for 1 to 30 degrees of freedom, then that of the normal distribution.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// What was seen of a process.
pub struct Samples {
    process: u32,
    /// Seconds, resident MiB, open files.
    taken: Vec<(f64, f64, usize)>,
}

/// What follows from it.
#[derive(Debug)]
pub struct Judgement {
    blocks: usize,
    /// MiB an hour.
    slope: f64,
    /// Of the slope.
    error: f64,
    /// Of neighbouring averages, around the line; none is taken as negative.
    correlation: f64,
    t: f64,
    critical: f64,
    /// MiB, from the first average after the warm-up to the last.
    growth: f64,
    resident: (f64, f64),
}

impl Samples {
    /// Of this process.
    pub fn of(process: u32) -> Self {
        Self {
            process,
            taken: Vec::new(),
        }
    }

    /// Takes one.
    pub fn take(&mut self, at: Duration) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process));
        let status = status.unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        let files = fs::read_dir(format!("/proc/{}/fd", self.process));
        if let (Some(resident), Ok(files)) = (resident, files) {
            self.taken
                .push((at.as_secs_f64(), resident / 1024.0, files.count()));
        }
    }

    /// Open files a quarter into the time, and at the end.
    pub fn descriptors(&self) -> (usize, usize) {
        let of = |place: usize| self.taken.get(place).map_or(0, |sample| sample.2);
        (
            of(self.taken.len() / 4),
            of(self.taken.len().saturating_sub(1)),
        )
    }

    /// One line a sample.
    pub fn csv(&self) -> String {
        let lines = self
            .taken
            .iter()
            .map(|(at, resident, files)| format!("{at:.1},{resident:.3},{files}\n"));
        format!(
            "seconds,resident_mib,open_files\n{}",
            lines.collect::<String>()
        )
    }

    /// Whether it grows, in a run of this length; a short one has a warm-up of a quarter.
    pub fn judge(&self, length: Duration) -> Judgement {
        let warm_up = WARM_UP.min(length / 4).as_secs_f64();
        let block = BLOCK.min(length / 16).as_secs_f64();
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut from = warm_up;
        while from + block <= length.as_secs_f64() {
            let within: Vec<f64> = self
                .taken
                .iter()
                .filter(|(at, ..)| (from..from + block).contains(at))
                .map(|(_, resident, _)| *resident)
                .collect();
            if !within.is_empty() {
                let mean = within.iter().sum::<f64>() / within.len() as f64;
                points.push(((from + block / 2.0) / 3600.0, mean));
            }
            from += block;
        }
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let xx: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let xy: f64 = points
            .iter()
            .map(|point| (point.0 - x) * (point.1 - y))
            .sum();
        let slope = xy / xx;
        let residuals: Vec<f64> = points
            .iter()
            .map(|point| point.1 - y - slope * (point.0 - x))
            .collect();
        let rest: f64 = residuals.iter().map(|residual| residual * residual).sum();
        let neighbours: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let correlation = (neighbours / rest).clamp(0.0, 0.9);
        let freedom = (n * (1.0 - correlation) / (1.0 + correlation) - 2.0).max(1.0);
        let error = (rest / freedom / xx).sqrt();
        let first = points.first().map_or(0.0, |point| point.1);
        let last = points.last().map_or(0.0, |point| point.1);
        Judgement {
            blocks: points.len(),
            slope,
            error,
            correlation,
            t: slope / error,
            critical: T.get(freedom as usize - 1).copied().unwrap_or(1.96),
            growth: last - first,
            resident: (first, last),
        }
    }
}

impl Judgement {
    /// It does not.
    pub fn assert(&self) {
        assert!(self.t < self.critical, "the memory grows: {self}");
        assert!(self.growth <= GROWTH_MAX, "the memory has grown: {self}");
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory: {:.1} MiB after the warm-up, {:.1} MiB at the end ({:+.1}); slope {:+.2} MiB/h, standard error {:.2}, t = {:.2} with {} averages of a correlation of {:.2} (told from zero from {:.2} on)",
            self.resident.0,
            self.resident.1,
            self.growth,
            self.slope,
            self.error,
            self.t,
            self.blocks,
            self.correlation,
            self.critical
        )
    }
}

#[test]
fn a_line_that_rises_is_told_from_noise() {
    let run = |slope: f64| {
        let mut samples = Samples::of(0);
        for second in 0..1_200_u32 {
            let noise = f64::from((second * 7_919) % 101) / 50.0;
            let at = f64::from(second);
            samples
                .taken
                .push((at, 50.0 + slope * at / 3600.0 + noise, 1));
        }
        samples.judge(Duration::from_secs(1_200))
    };
    let (flat, rising) = (run(0.0), run(10.0));
    assert!(flat.correlation < 0.5, "{flat}");
    assert!(flat.t.abs() < flat.critical, "{flat}");
    assert!(rising.t > rising.critical, "{rising}");
    assert!((rising.slope - 10.0).abs() < 1.0, "{rising}");
}
