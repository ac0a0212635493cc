/// What is armed, and what has happened of it.
///
/// The choices of each order come from a generator of its own, seeded by the set's seed and the order's number, so that the n-th opportunity
/// of an order is decided the same way whatever else is armed.
package struct Faults: Sendable {
    package struct Armed: Sendable {
        package let order: FaultOrder
        /// Nil is always.
        package fileprivate(set) var timesLeft: Int?
        package fileprivate(set) var fired = 0
        fileprivate var random: SplitMix
    }

    private let seed: UInt64
    private var orders: UInt64 = 0
    /// In the order of arming; those that are used up are gone.
    package private(set) var armed: [Armed] = []
    /// How often each kind has struck, also of orders that are gone.
    package private(set) var fired: [Fault.Kind: Int] = [:]

    package init(seed: UInt64) { self.seed = seed }

    package mutating func arm(_ order: FaultOrder) {
        orders += 1
        var random = SplitMix(state: seed)
        random = SplitMix(state: random.next() &+ orders)
        armed.append(Armed(order: order, timesLeft: order.times, random: random))
    }

    /// Nothing is armed any more; the counts stay.
    package mutating func clear() { armed = [] }

    /// The fault of that kind that strikes at this opportunity, if one does: of several orders the first.
    ///
    /// - Parameters:
    ///   - moment: for the kinds that have one.
    ///   - choices: for the kinds of which only some values are meant.
    ///   - subject: what an order's text is looked for in; asked only if there is a text.
    mutating func strike(_ kind: Fault.Kind, at moment: Moment? = nil, choices: [String]? = nil, subject: () -> String) -> Fault? {
        var known: String?
        for index in armed.indices {
            let order = armed[index].order
            guard order.fault.kind == kind, order.fault.moment == moment else { continue }
            if let choices, order.fault.choice.map(choices.contains) != true { continue }
            if let text = order.only ?? kind.defaultFilter {
                let subject = known ?? subject()
                known = subject
                guard subject.contains(text) else { continue }
            }
            if order.probability < 1, armed[index].random.fraction() >= order.probability { continue }
            armed[index].fired += 1
            fired[kind, default: 0] += 1
            if let left = armed[index].timesLeft {
                armed[index].timesLeft = left - 1
                if left == 1 { armed.remove(at: index) }
            }
            return order.fault
        }
        return nil
    }
}

extension SplitMix {
    /// From 0 to below 1, with all the bits that a `Double` has.
    fileprivate mutating func fraction() -> Double { Double(next() >> 11) * 0x1p-53 }
}
