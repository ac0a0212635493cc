/// When in the life of a prompt or a connection a fault happens.
package enum Moment: Sendable, Hashable {
    /// A socket was upgraded and greeted.
    case connect
    /// The prompt is queued, `POST /prompt` not yet answered.
    case submit
    /// Behind `execution_start`.
    case start
    /// Behind the `executing` of any node.
    case node
    /// In place of the report of that step, counted from 1 over the whole run (also those that are throttled away).
    case step(Int)
    /// Before `execution_success`.
    case success
    /// The history has the entry; before `executing` with node null.
    case end
    /// `GET /view`, before the answer.
    case view

    private static let names: [(name: String, moment: Moment)] = [
        ("connect", .connect), ("submit", .submit), ("start", .start), ("node", .node), ("success", .success), ("end", .end), ("view", .view),
    ]

    /// A name, or the number of a step.
    init?(_ text: some StringProtocol) {
        if let named = Self.names.first(where: { $0.name == text }) {
            self = named.moment
        } else if let step = Int(text), step > 0 {
            self = .step(step)
        } else {
            return nil
        }
    }

    var text: String {
        if case .step(let number) = self { return String(number) }
        return Self.names.first { $0.moment == self }?.name ?? ""
    }
}
