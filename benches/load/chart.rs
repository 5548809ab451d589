//! The comparisons as an SVG picture: two bars each, the other side's always full length.

use std::fmt::Write as _;

use super::measured::{Line, figure};

const WIDTH: f64 = 920.0;
const LABEL: f64 = 400.0;
const FULL: f64 = 300.0;
const ROW: f64 = 44.0;
const TOP: f64 = 64.0;
/// A bar that is longer than this many times the other is cut off.
const MOST: f64 = 1.4;

/// Draws every comparison that has a goal; the table and the JSON have the others.
pub fn draw(lines: &[Line], caption: &str) -> String {
    let compared: Vec<_> = lines
        .iter()
        .filter(|line| line.bound.is_some())
        .filter_map(|line| Some((line, line.other?, line.ratio?)))
        .collect();
    let height = TOP + ROW * f64::from(u32::try_from(compared.len()).unwrap_or(0)) + 16.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" font-weight=\"600\">Countersign (blue) beside what it is compared with (grey)</text>\n\
         <text x=\"16\" y=\"44\" fill=\"#57606a\" font-size=\"12\">{}</text>\n",
        escape(caption)
    );
    let mut y = TOP;
    for (line, (against, other), ratio) in compared {
        row(&mut svg, y, line, against, other, ratio);
        y += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

fn row(svg: &mut String, y: f64, line: &Line, against: &str, other: f64, ratio: f64) {
    let ours = FULL * ratio.clamp(0.0, MOST);
    let colour = match line.met {
        Some(false) => "#cf222e",
        _ => "#0969da",
    };
    // Writing to a `String` does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"16\" y=\"{0}\">{1}</text>\
         <text x=\"16\" y=\"{2}\" fill=\"#57606a\" font-size=\"11\">{3} : against {4}</text>\
         <rect x=\"{LABEL}\" y=\"{5}\" width=\"{ours:.1}\" height=\"14\" fill=\"{colour}\"/>\
         <rect x=\"{LABEL}\" y=\"{6}\" width=\"{FULL}\" height=\"14\" fill=\"#afb8c1\"/>\
         <text x=\"{7:.1}\" y=\"{0}\" font-size=\"11\">{8} ({ratio:.2})</text>\
         <text x=\"{9}\" y=\"{2}\" font-size=\"11\">{10}</text>",
        y + 12.0,
        escape(&line.name),
        y + 28.0,
        escape(&line.group),
        escape(against),
        y + 1.0,
        y + 17.0,
        LABEL + ours + 6.0,
        figure(line.ours),
        LABEL + FULL + 6.0,
        figure(other),
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
