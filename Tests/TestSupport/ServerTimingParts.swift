/// Milliseconds by name.
func serverTimingParts(_ value: String) -> [String: Double] {
    Dictionary(uniqueKeysWithValues: value.matches(of: /(\w+);dur=([\d.]+)/).map { (String($0.output.1), Double($0.output.2) ?? -1) })
}
