/// What is wrong with a workflow: the first hundred faults, and how many there are. A graph of some megabytes may have a million.
package struct WorkflowFaults: Sendable, Equatable {
    package static let limit = 100

    /// The first ones.
    package private(set) var told: [WorkflowFault] = []
    /// The number of all.
    package private(set) var total = 0

    package init() {}

    /// - Parameter total: with those that were not kept.
    package init(_ told: [WorkflowFault], total: Int? = nil) {
        self.told = Array(told.prefix(Self.limit))
        self.total = Swift.max(told.count, total ?? 0)
    }

    package var isComplete: Bool { told.count == total }

    /// A fault that is not told is not made either.
    package mutating func append(_ fault: @autoclosure () -> WorkflowFault) {
        total += 1
        if told.count < Self.limit { told.append(fault()) }
    }
}

extension WorkflowFaults: RandomAccessCollection, ExpressibleByArrayLiteral {
    package var startIndex: Int { told.startIndex }
    package var endIndex: Int { told.endIndex }
    package subscript(position: Int) -> WorkflowFault { told[position] }

    package init(arrayLiteral faults: WorkflowFault...) { self.init(faults) }
}
