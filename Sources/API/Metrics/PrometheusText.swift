import Jobs

/// Writes metrics in the Prometheus text format 0.0.4.
struct PrometheusText {
    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    enum Kind: String { case counter, gauge, histogram }

    typealias Labels = KeyValuePairs<String, String>

    private(set) var text = ""

    /// Begins a metric; its samples follow. Without a sample only its description is there.
    mutating func metric(_ name: String, _ kind: Kind, _ help: String) {
        text += "# HELP \(name) \(Self.escaped(help, quote: false))\n# TYPE \(name) \(kind.rawValue)\n"
    }

    mutating func sample(_ name: String, _ labels: Labels, _ value: Double) {
        line(name, labels.map { ($0.key, $0.value) }, Self.number(value))
    }

    mutating func sample(_ name: String, _ labels: Labels, _ value: Int) {
        line(name, labels.map { ($0.key, $0.value) }, String(value))
    }

    mutating func samples(_ name: String, _ labels: Labels = [:], of histogram: Histogram) {
        let reading = histogram.reading
        let labels = labels.map { ($0.key, $0.value) }
        for (bound, count) in zip(histogram.bounds, reading.cumulative) {
            line(name + "_bucket", labels + [("le", Self.number(bound))], String(count))
        }
        line(name + "_bucket", labels + [("le", "+Inf")], String(reading.count))
        line(name + "_sum", labels, Self.number(reading.sum))
        line(name + "_count", labels, String(reading.count))
    }

    /// A metric with one sample and no labels.
    mutating func single(_ name: String, _ kind: Kind, _ help: String, _ value: Int) {
        metric(name, kind, help)
        sample(name, [:], value)
    }

    private mutating func line(_ name: String, _ labels: [(String, String)], _ value: String) {
        text += name
        if !labels.isEmpty {
            text += "{" + labels.map { "\($0)=\"\(Self.escaped($1, quote: true))\"" }.joined(separator: ",") + "}"
        }
        text += " \(value)\n"
    }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : "\(value)"
    }

    private static func escaped(_ text: String, quote: Bool) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped += #"\\"#
            case "\n": escaped += #"\n"#
            case "\"" where quote: escaped += #"\""#
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
