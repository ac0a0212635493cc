/// The outputs of a job in the order in which they came.
///
/// Whoever reads a job has a copy, so one is shared at nearly every change. Of an array each change would copy all; of this one only the few
/// newest: a job may have tens of thousands.
package struct OutputList: Sendable {
    private static let chunkSize = 64

    private var full: [[Output]] = []
    private var newest: [Output] = []

    package init(_ outputs: some Sequence<Output> = []) {
        for output in outputs { append(output) }
    }

    package mutating func append(_ output: Output) {
        newest.append(output)
        guard newest.count == Self.chunkSize else { return }
        full.append(newest)
        newest = []
    }

    package mutating func removeAll() { self = OutputList() }
}

extension OutputList: RandomAccessCollection, ExpressibleByArrayLiteral {
    package var startIndex: Int { 0 }
    package var endIndex: Int { full.count * Self.chunkSize + newest.count }

    package subscript(position: Int) -> Output {
        let (chunk, place) = position.quotientAndRemainder(dividingBy: Self.chunkSize)
        return chunk < full.count ? full[chunk][place] : newest[place]
    }

    package init(arrayLiteral outputs: Output...) { self.init(outputs) }
}
