import DAGCore
import Foundation

/// One HTML page without other files: a plot of reward against diversity, the table, and images side by side.
struct ReportPage {
    private let report: EvaluationReport
    private let configuration: TrainingConfiguration
    private let sheets: [(name: String, png: Data)]

    /// - Parameter sheets: images of each sampler.
    init(_ report: EvaluationReport, _ configuration: TrainingConfiguration, _ sheets: [(name: String, png: Data)]) {
        self.report = report
        self.configuration = configuration
        self.sheets = sheets
    }

    /// The page.
    var html: String {
        let rows = ReportTable(report).rows.enumerated().map { place, row in
            let tag = place == 0 ? "th" : "td"
            return "<tr>" + row.map { "<\(tag)>\(Self.escaped($0))</\(tag)>" }.joined() + "</tr>"
        }
        let figures = sheets.map { name, png in
            """
            <figure><figcaption>\(Self.escaped(name))</figcaption>
            <img alt="\(Self.escaped(name))" src="data:image/png;base64,\(png.base64EncodedString())"></figure>
            """
        }
        let warnings = report.warnings.map { "<p class=\"warning\">\(Self.escaped($0))</p>" }
        let rewards = configuration.rewardPlugin.joined(separator: ", ")
        let subject = "\(configuration.model) with \(rewards), \(configuration.steps) steps"
        return """
            <!doctype html>
            <html lang="en"><meta charset="utf-8"><title>dag-eval: \(Self.escaped(configuration.model))</title>
            <style>
            body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
            table { border-collapse: collapse } th, td { padding: .2em .8em; text-align: left; border-bottom: 1px solid #ddd }
            .images { display: flex; flex-wrap: wrap; gap: 1em } figure { margin: 0 } img { max-width: 100% } .warning { color: #a30 }
            svg text { font: 12px system-ui, sans-serif }
            </style>
            <h1>Reward against diversity</h1>
            <p>\(Self.escaped(subject)). Grey: what an exact sampler of p_base(x) exp(beta s(x)) would give from beta 0 on.
            All numbers with their standard errors.</p>
            \(plot)
            \(warnings.joined(separator: "\n"))
            <table>\(rows.joined(separator: "\n"))</table>
            <h2>Images</h2>
            <p>The same prompts in the same places. Those of a beta are drawn in proportion to their weights, so that one may recur.</p>
            <div class="images">\(figures.joined(separator: "\n"))</div>
            </html>

            """
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing("\"", with: "&quot;")
    }

    // MARK: The plot

    /// One axis: values to places on the page.
    private struct Axis {
        let low, high: Double
        let start, end: Double

        /// - Parameter values: all that are to be seen; those that are not finite are not.
        init(_ values: [Double], from start: Double, to end: Double) {
            let finite = values.filter(\.isFinite)
            let least = finite.min() ?? 0
            let most = finite.max() ?? 1
            let margin = max(most - least, 1e-6 * max(1, abs(most))) * 0.08
            low = least - margin
            high = most + margin
            self.start = start
            self.end = end
        }

        func callAsFunction(_ value: Double) -> Double { start + (value - low) / (high - low) * (end - start) }

        var ticks: [Double] {
            let rough = (high - low) / 5
            let power = pow(10, log10(rough).rounded(.down))
            let step = [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough } ?? rough
            return Array(stride(from: (low / step).rounded(.up) * step, through: high, by: step))
        }
    }

    /// Reward over diversity: a curve over beta, and a point with errors for each sampler.
    private var plot: String {
        let points = report.columns.compactMap { column in
            column["diversity"].flatMap { x in column["reward"].map { y in (name: column.name, x: x, y: y) } }
        }.filter { $0.x.value.isFinite && $0.y.value.isFinite }
        func ends(_ estimate: Estimate) -> [Double] {
            let error = estimate.standardError.flatMap { $0.isFinite ? $0 : nil } ?? 0
            return [estimate.value - error, estimate.value + error]
        }
        let x = Axis(points.flatMap { ends($0.x) } + report.curve.map(\.diversity), from: 70, to: 680)
        let y = Axis(points.flatMap { ends($0.y) } + report.curve.map(\.reward), from: 380, to: 20)
        func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ colour: String) -> String {
            String(format: "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='\(colour)'/>", x1, y1, x2, y2)
        }
        func text(_ text: String, _ x: Double, _ y: Double, _ anchor: String) -> String {
            String(format: "<text x='%.1f' y='%.1f' text-anchor='\(anchor)'>", x, y) + Self.escaped(text) + "</text>"
        }
        var parts = ["<svg viewBox='0 0 720 430' width='720' role='img' aria-label='reward over diversity'>"]
        func number(_ value: Double) -> String { String(format: "%.4g", value) }
        for tick in x.ticks { parts += [line(x(tick), 20, x(tick), 380, "#eee"), text(number(tick), x(tick), 398, "middle")] }
        for tick in y.ticks { parts += [line(70, y(tick), 680, y(tick), "#eee"), text(number(tick), 62, y(tick) + 4, "end")] }
        parts += [text("diversity", 375, 422, "middle"), text("reward", 70, 14, "middle")]
        let curve = report.curve.filter { $0.diversity.isFinite && $0.reward.isFinite }
        let places = curve.map { String(format: "%.1f,%.1f", x($0.diversity), y($0.reward)) }.joined(separator: " ")
        parts.append("<polyline points='\(places)' fill='none' stroke='#999'/>")
        for (place, point) in points.enumerated() {
            let colour = point.name == "LoRA" ? "#d33" : "#246"
            let across = ends(point.x).map(x.callAsFunction)
            let up = ends(point.y).map(y.callAsFunction)
            let cx = x(point.x.value)
            let cy = y(point.y.value)
            parts += [line(across[0], cy, across[1], cy, colour), line(cx, up[0], cx, up[1], colour)]
            parts.append(String(format: "<circle cx='%.1f' cy='%.1f' r='4' fill='\(colour)'/>", cx, cy))
            // By turns above and below: those of neighbours are often close together.
            parts.append(text(point.name, cx + 8, cy + (place % 2 == 0 ? -7 : 17), "start"))
        }
        return parts.joined(separator: "\n") + "\n</svg>"
    }
}
