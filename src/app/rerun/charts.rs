//! Charts as SVG: bars in pairs, before and after. The shapes are drawn by the `plotters` crate, which escapes the texts.

use crate::domain::printable;
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::drawing::IntoDrawingArea;
use plotters::element::PathElement;
use plotters::element::Rectangle;
use plotters::element::Text;
use plotters::style::Color;
use plotters::style::IntoFont;
use plotters::style::RGBColor;
use plotters::style::WHITE;
use std::fmt::Display;

/// As it was recorded.
const BEFORE: RGBColor = RGBColor(0x8a, 0x94, 0xa6);
/// As it would be.
const AFTER: RGBColor = RGBColor(0x1f, 0x5f, 0xbf);
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2e);
const LINE: RGBColor = RGBColor(0xd5, 0xd9, 0xe0);
const WIDTH: u32 = 720;
/// Characters of a label.
const LABEL_MAX: usize = 24;
/// Pixels before the bars of a list.
const LEFT: i32 = 180;

/// A pair of bars.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) label: String,
    pub(super) before: f64,
    pub(super) after: f64,
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// A number.
    Count,
    /// A share of 1, in percent.
    Share,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Share => format!("{:.1} %", value * 100.0),
        }
    }
}

/// Bars that lie, one pair below the other. What goes wrong is told as text.
pub(super) fn list(pairs: &[Pair], unit: Unit) -> Result<String, String> {
    const ROW: i32 = 34;
    let height = pixels(pairs.len()) * ROW + 30;
    draw(height, |area| {
        let most = most(pairs);
        let room = f64::from(pixels(WIDTH as usize) - LEFT - 90);
        legend(area)?;
        for (place, pair) in pairs.iter().enumerate() {
            let top = 26 + pixels(place) * ROW;
            text(area, &cut(&pair.label), (6, top + 8))?;
            let bars = [(pair.before, BEFORE, 0), (pair.after, AFTER, 13)];
            for (value, color, down) in bars {
                let end = LEFT + length(value / most * room);
                bar(area, (LEFT, top + down), (end, top + down + 11), color)?;
                text(area, &unit.write(value), (end + 6, top + down))?;
            }
        }
        Ok(())
    })
}

/// Bars that stand, one pair beside the other. Every so many labels are written.
pub(super) fn row(pairs: &[Pair], every: usize, unit: Unit) -> Result<String, String> {
    const HEIGHT: i32 = 220;
    const FLOOR: i32 = 180;
    draw(HEIGHT, |area| {
        let most = most(pairs);
        legend(area)?;
        let step = f64::from(WIDTH - 70) / (pairs.len().max(1) as f64);
        text(area, &unit.write(most), (4, 26))?;
        for height in [30, (30 + FLOOR) / 2, FLOOR] {
            let line = vec![(60, height), (pixels(WIDTH as usize) - 10, height)];
            let line = PathElement::new(line, LINE.stroke_width(1));
            area.draw(&line).map_err(told)?;
        }
        for (place, pair) in pairs.iter().enumerate() {
            let left = 60 + length(place as f64 * step);
            let wide = length(step * 0.4).max(1);
            let bars = [(pair.before, BEFORE, 0), (pair.after, AFTER, wide)];
            for (value, color, right) in bars {
                let top = FLOOR - length(value / most * f64::from(FLOOR - 30));
                let begin = left + right;
                bar(area, (begin, top), (begin + wide, FLOOR), color)?;
            }
            if place % every.max(1) == 0 {
                text(area, &cut(&pair.label), (left, FLOOR + 8))?;
            }
        }
        Ok(())
    })
}

fn draw(
    height: i32,
    shapes: impl FnOnce(&Area<'_>) -> Result<(), String>,
) -> Result<String, String> {
    let mut svg = String::new();
    {
        let height = u32::try_from(height).unwrap_or(0);
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(told)?;
        shapes(&area)?;
        area.present().map_err(told)?;
    }
    Ok(svg)
}

fn legend(area: &Area<'_>) -> Result<(), String> {
    for (left, color, name) in [(LEFT, BEFORE, "recorded"), (LEFT + 100, AFTER, "replayed")] {
        bar(area, (left, 6), (left + 10, 16), color)?;
        text(area, name, (left + 15, 6))?;
    }
    Ok(())
}

fn bar(area: &Area<'_>, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Result<(), String> {
    let shape = Rectangle::new([from, to], color.filled());
    area.draw(&shape).map_err(told)
}

fn text(area: &Area<'_>, said: &str, at: (i32, i32)) -> Result<(), String> {
    let style = ("sans-serif", 11).into_font().color(&INK);
    let shape = Text::new(said.to_owned(), at, style);
    area.draw(&shape).map_err(told)
}

fn told(error: impl Display) -> String {
    error.to_string()
}

fn most(pairs: &[Pair]) -> f64 {
    let values = pairs.iter().flat_map(|pair| [pair.before, pair.after]);
    values.fold(0.0, f64::max).max(1e-9)
}

fn length(value: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a length within the picture; what is not is cut to it"
    )]
    let pixels = value.clamp(0.0, 10_000.0).round() as i32;
    pixels
}

fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(0)
}

/// A label in its room, in which nothing acts on what is around it.
fn cut(label: &str) -> String {
    let label = printable::plain(label);
    if label.chars().count() <= LABEL_MAX {
        return label.into_owned();
    }
    let front: String = label.chars().take(LABEL_MAX - 1).collect();
    format!("{front}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(label: &str, before: f64, after: f64) -> Pair {
        Pair {
            label: label.to_owned(),
            before,
            after,
        }
    }

    #[test]
    fn a_chart_is_svg_without_script() {
        let pairs = [
            pair("<script>alert(1)</script>", 1.0, 2.0),
            pair("b\u{202e}\u{7}", 0.0, 0.0),
        ];
        for svg in [list(&pairs, Unit::Count), row(&pairs, 1, Unit::Share)] {
            let svg = svg.unwrap();
            assert!(
                svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"),
                "{svg}"
            );
            assert!(!svg.contains("<script"), "{svg}");
            assert!(!svg.contains(|c| printable::acts(c) && c != '\n'), "{svg}");
            assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
        }
    }

    #[test]
    fn nothing_to_show_is_no_error() {
        assert!(list(&[], Unit::Count).is_ok() && row(&[], 0, Unit::Count).is_ok());
    }

    #[test]
    fn the_longest_bar_is_the_largest_value() {
        let svg = list(&[pair("a", 10.0, 40.0), pair("b", 20.0, 0.0)], Unit::Count).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let widths: Vec<f64> = document
            .descendants()
            .filter(|node| node.has_tag_name("rect") || node.tag_name().name() == "rect")
            .filter_map(|node| node.attribute("width")?.parse().ok())
            .collect();
        // The ground, two of the legend, two pairs.
        assert_eq!(widths.len(), 7, "{svg}");
        assert!((widths[4] / widths[3] - 4.0).abs() < 0.1, "{widths:?}");
        assert!((widths[5] / widths[3] - 2.0).abs() < 0.1, "{widths:?}");
    }
}
