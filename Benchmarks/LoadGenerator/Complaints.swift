import Foundation

/// What was wrong with what was received. Only the first few are told; all are counted.
struct Complaints {
    private static let limit = 5

    private(set) var count = 0
    private var texts: [String] = []

    mutating func add(_ text: String) {
        count += 1
        if texts.count < Self.limit { texts.append(text) }
    }

    /// - Throws: when there are any.
    func raise() throws {
        guard count > 0 else { return }
        let more = count > texts.count ? ["and \(count - texts.count) more"] : []
        throw ProtocolViolation((texts + more).joined(separator: "\n"))
    }
}
