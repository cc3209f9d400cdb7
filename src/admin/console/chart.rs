//! What is drawn, as SVG made here: bars of contributions, a score on its scale, columns over time. Numbers go in, no text
//! of others; colours come from the stylesheet. Each drawing says in words what it shows, and a table beside it has the figures.

use maud::Markup;
use maud::html;

/// A column: its parts from the bottom up, each with the class of its colour.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// What stands under it, if anything.
    pub(super) label: String,
    /// Class of colour and size.
    pub(super) parts: Vec<(&'static str, u64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 48.0;
const FOOT: f64 = 20.0;
const TOP: f64 = 8.0;

/// A bar to the right for more risk, to the left for less; `most` is the longest there is.
pub(super) fn contribution(part: f32, most: f32) -> Markup {
    let length = (part.abs() / most.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0) * 78.0;
    let start = if part < 0.0 { 80.0 - length } else { 80.0 };
    html! {
        svg width="160" height="14" viewBox="0 0 160 14" aria-hidden="true" {
            rect class=(if part < 0.0 { "down" } else { "up" }) x=(format!("{start:.1}")) y="2" width=(format!("{length:.1}")) height="10" {}
            line class="axis" x1="80" y1="0" x2="80" y2="14" {}
        }
    }
}

/// A score between 0 and 100, with where medium and high begin.
pub(super) fn thresholds(score: u8, medium: u8, high: u8) -> Markup {
    let at = |points: u8| f64::from(points.min(100)) * 3.0 + 10.0;
    html! {
        svg width="320" height="44" viewBox="0 0 320 44" role="img" aria-label=(format!("Score {score} of 100; medium begins at {medium}, high at {high}")) {
            rect class="c1" x="10" y="14" width=(at(medium) - 10.0) height="10" {}
            rect class="c2" x=(at(medium)) y="14" width=((at(high) - at(medium)).max(0.0)) height="10" {}
            rect class="c4" x=(at(high)) y="14" width=((310.0 - at(high)).max(0.0)) height="10" {}
            polygon class="mark" points=(format!("{x:.1},12 {left:.1},3 {right:.1},3", x = at(score), left = at(score) - 5.0, right = at(score) + 5.0)) {}
            text x="10" y="38" { "0" }
            text x=(at(medium)) y="38" text-anchor="middle" { (medium) }
            text x=(at(high)) y="38" text-anchor="middle" { (high) }
            text x="310" y="38" text-anchor="end" { "100" }
        }
    }
}

/// Columns over time.
pub(super) fn columns(columns: &[Column], says: &str) -> Markup {
    let total = |column: &Column| column.parts.iter().map(|(_, size)| size).sum::<u64>();
    let top = round_up(columns.iter().map(total).max().unwrap_or(0));
    let room = (WIDTH - LEFT) / columns.len().max(1) as f64;
    let tall = HEIGHT - FOOT - TOP;
    let height = |size: u64| size as f64 / top as f64 * tall;
    let base = HEIGHT - FOOT;
    html! {
        svg width=(WIDTH) height=(HEIGHT) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(says) {
            @for (share, y) in [(top, TOP), (top / 2, TOP + tall / 2.0)] {
                line class="axis" x1=(LEFT) y1=(y) x2=(WIDTH) y2=(y) {}
                text x=(LEFT - 6.0) y=(y + 4.0) text-anchor="end" { (super::layout::grouped(share)) }
            }
            @for (number, column) in columns.iter().enumerate() {
                @let x = LEFT + room * number as f64;
                @for (class, from, size) in stacked(column) {
                    rect class=(class) x=(format!("{:.1}", x + room * 0.1)) y=(format!("{:.1}", base - height(from + size))) width=(format!("{:.1}", room * 0.8)) height=(format!("{:.1}", height(size))) {}
                }
                @if !column.label.is_empty() {
                    text x=(format!("{:.1}", x + room / 2.0)) y=(HEIGHT - 5.0) text-anchor="middle" { (column.label) }
                }
            }
            line class="axis" x1=(LEFT) y1=(base) x2=(WIDTH) y2=(base) {}
        }
    }
}

/// What the colours mean.
pub(super) fn legend(names: &[(&'static str, &str)]) -> Markup {
    html! {
        ul class="legend" {
            @for (class, name) in names {
                li { svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" { rect class=(class) width="12" height="12" {} } (name) }
            }
        }
    }
}

/// Each part with what stands below it.
fn stacked(column: &Column) -> Vec<(&'static str, u64, u64)> {
    let mut from = 0;
    column
        .parts
        .iter()
        .filter(|(_, size)| *size > 0)
        .map(|(class, size)| {
            let part = (*class, from, *size);
            from += size;
            part
        })
        .collect()
}

/// An even number from `most` on that reads well as the end of a scale.
fn round_up(most: u64) -> u64 {
    let mut step: u64 = 1;
    loop {
        for times in [2, 4, 6, 10] {
            if let Some(end) = step.checked_mul(times).filter(|end| *end >= most) {
                return end;
            }
        }
        match step.checked_mul(10) {
            Some(next) => step = next,
            None => return u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_where_one_reads_well() {
        for (most, end) in [(0, 2), (3, 4), (7, 10), (11, 20), (61, 100), (5_500, 6_000)] {
            assert_eq!(round_up(most), end);
        }
        assert_eq!(round_up(u64::MAX), u64::MAX);
    }

    #[test]
    fn drawings_stay_within_their_frame() {
        let tall = Column {
            label: String::new(),
            parts: vec![("c1", 3), ("c4", 1), ("c2", 0)],
        };
        let drawn = columns(&[Column::default(), tall], "x").into_string();
        assert_eq!(drawn.matches("<rect").count(), 2);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
        for part in [0.0, -3.0, 3.0, f32::MAX] {
            assert!(!contribution(part, 0.0).into_string().contains("NaN"));
        }
        assert!(thresholds(250, 30, 71).into_string().contains("310.0"));
    }
}
