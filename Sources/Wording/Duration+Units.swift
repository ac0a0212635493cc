package import FoundationEssentials

extension Duration {
    /// The duration in seconds, for Foundation's interfaces.
    package var seconds: TimeInterval {
        TimeInterval(components.seconds) + TimeInterval(components.attoseconds) * 1e-18
    }

    /// Whole milliseconds, rounded.
    package var milliseconds: Int { Int((seconds * 1000).rounded()) }

    /// For a person: `2.5 s`, `1 min 5 s`, `2 h 1 min`.
    package var words: String {
        let tenths = max(0, Int((seconds * 10).rounded()))
        let whole = tenths / 10
        switch whole {
        case ..<60: return "\(whole).\(tenths % 10) s"
        case ..<3600: return "\(whole / 60) min \(whole % 60) s"
        default: return "\(whole / 3600) h \(whole / 60 % 60) min"
        }
    }
}
