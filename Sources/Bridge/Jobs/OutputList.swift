/// The outputs of a job in the order in which they came.
///
/// Whoever reads a job has a copy, so one is shared at nearly every change. Of an array each change would copy all; of this one only the few
/// newest: a job may have tens of thousands.
struct OutputList: Sendable {
    private static let chunkSize = 64

    private var full: [[Output]] = []
    private var newest: [Output] = []

    init(_ outputs: some Sequence<Output> = []) {
        for output in outputs { append(output) }
    }

    mutating func append(_ output: Output) {
        newest.append(output)
        guard newest.count == Self.chunkSize else { return }
        full.append(newest)
        newest = []
    }

    mutating func removeAll() { self = OutputList() }
}

extension OutputList: RandomAccessCollection, ExpressibleByArrayLiteral {
    var startIndex: Int { 0 }
    var endIndex: Int { full.count * Self.chunkSize + newest.count }

    subscript(position: Int) -> Output {
        let (chunk, place) = position.quotientAndRemainder(dividingBy: Self.chunkSize)
        return chunk < full.count ? full[chunk][place] : newest[place]
    }

    init(arrayLiteral outputs: Output...) { self.init(outputs) }
}
