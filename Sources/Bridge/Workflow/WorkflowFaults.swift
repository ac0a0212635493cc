/// What is wrong with a workflow: the first hundred faults, and how many there are. A graph of some megabytes may have a million.
struct WorkflowFaults: Sendable, Equatable {
    static let limit = 100

    /// The first ones.
    private(set) var told: [WorkflowFault] = []
    /// The number of all.
    private(set) var total = 0

    init() {}

    /// - Parameter total: with those that were not kept.
    init(_ told: [WorkflowFault], total: Int? = nil) {
        self.told = Array(told.prefix(Self.limit))
        self.total = Swift.max(told.count, total ?? 0)
    }

    var isComplete: Bool { told.count == total }

    /// A fault that is not told is not made either.
    mutating func append(_ fault: @autoclosure () -> WorkflowFault) {
        total += 1
        if told.count < Self.limit { told.append(fault()) }
    }
}

extension WorkflowFaults: RandomAccessCollection, ExpressibleByArrayLiteral {
    var startIndex: Int { told.startIndex }
    var endIndex: Int { told.endIndex }
    subscript(position: Int) -> WorkflowFault { told[position] }

    init(arrayLiteral faults: WorkflowFault...) { self.init(faults) }
}
