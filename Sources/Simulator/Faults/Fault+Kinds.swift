extension Fault.Kind {
    /// What stands behind `=`.
    enum Form {
        case none
        case moment(default: Moment, allowed: @Sendable (Moment) -> Bool)
        case number(unit: String, default: Int, range: ClosedRange<Int>)
        case choice([String])
    }

    var form: Form { description.form }
    /// One line for the help.
    var meaning: String { description.meaning }
    /// The text that method and path of a request must contain when the order names none: faults of answers only.
    var defaultFilter: String? { description.filter }

    private static let finals = [Fault.FinalMessage.end, .outcome, .both].map(\.rawValue)
    private static let outputs = [Fault.WrongOutputs.renamed, .empty, .garbage].map(\.rawValue)
    private static let milliseconds = 0...86_400_000

    private static func moment(_ moment: Moment, _ allowed: @escaping @Sendable (Moment) -> Bool = { _ in true }) -> Form {
        .moment(default: moment, allowed: allowed)
    }

    private static func inRun(_ moment: Moment) -> Bool { ![.connect, .submit, .view].contains(moment) }

    private static func inNode(_ moment: Moment) -> Bool {
        if case .step = moment { true } else { moment == .node }
    }

    private var description: (form: Form, filter: String?, meaning: String) {
        switch self {
        case .cut: (Self.moment(.end), nil, "the socket of the prompt's client is closed without a close frame")
        case .mute: (Self.moment(.connect), nil, "the socket stays open and answers pings, but is no longer registered: the reconnect trap")
        case .halfOpen: (Self.moment(.start), nil, "the socket's peer is gone: no bytes, no FIN, no pongs")
        case .exit: (Self.moment(.step(1)), nil, "the process ends like a killed one; --restart-after says whether it comes back")
        case .deadWorker: (Self.moment(.start, Self.inRun), nil, "the worker thread dies; HTTP looks healthy, nothing runs any more")
        case .outOfMemory: (Self.moment(.node, Self.inNode), nil, "the node fails with torch.OutOfMemoryError")
        case .acceleratorOutOfMemory: (Self.moment(.node, Self.inNode), nil, "the node fails with torch.AcceleratorError because of memory")
        case .deviceError: (Self.moment(.node, Self.inNode), nil, "the node fails with torch.AcceleratorError")
        case .refuse: (.number(unit: "MS", default: 0, range: Self.milliseconds), nil, "a new connection is dropped, and none is taken for so long")
        case .delayFinal:
            (.number(unit: "MS", default: 1000, range: Self.milliseconds), nil, "the outcome and every later message of anybody wait so long")
        case .dropFinal:
            (.choice(Self.finals), nil, "executing null (end), execution_success/error/interrupted (outcome) or both are not sent")
        case .duplicateFinal: (.choice(Self.finals), nil, "they are sent twice")
        case .historyMissing: (.none, nil, "the history does not get the entry")
        case .historyLate: (.number(unit: "MS", default: 1000, range: Self.milliseconds), nil, "the history gets the entry so much later")
        case .historyOutputs: (.choice(Self.outputs), nil, "the entry names files that do not exist, has no outputs, or is no object there")
        case .error: (.number(unit: "STATUS", default: 500, range: 400...599), nil, "the request is refused without a look at it")
        case .errorAfter: (.number(unit: "STATUS", default: 500, range: 400...599), "POST /prompt", "the request is carried out, the answer is this")
        case .hangUp: (.none, "POST /prompt", "the request is ignored, the connection closed")
        case .noAnswer: (.none, "POST /prompt", "the request is carried out, then the connection closed without an answer")
        case .delayAnswer: (.number(unit: "MS", default: 1000, range: Self.milliseconds), nil, "the request is carried out, the answer comes so late")
        case .html: (.number(unit: "STATUS", default: 200, range: 200...599), nil, "the request is carried out, the answer is a page")
        case .garbage: (.none, nil, "the request is carried out, the answer claims to be JSON and is not")
        case .endless: (.none, nil, "the request is carried out, the answer never ends")
        case .slow: (.number(unit: "BYTES", default: 10_000, range: 1...1 << 40), "GET /view", "the body comes at so many bytes a second")
        case .breakOff: (.number(unit: "PERCENT", default: 50, range: 0...99), "GET /view", "the connection breaks behind so much of the body")
        case .hugeFrame: (.number(unit: "MB", default: 200, range: 1...1024), nil, "each node sends a preview of this size")
        case .lyingLength:
            (.number(unit: "BYTES", default: 0x7FFF_FFFF, range: 0...0xFFFF_FFFF), nil, "each node sends a preview whose metadata claims this length")
        case .clock: (.number(unit: "MS", default: 3_600_000, range: -1 << 40...1 << 40), nil, "the clock of the timestamps jumps at a message")
        }
    }

    // MARK: Reading and showing

    /// - Parameter text: nil for the default.
    func fault(_ text: String?) throws(FaultOrder.SyntaxError) -> Fault {
        func wrong(_ expected: String) -> FaultOrder.SyntaxError {
            FaultOrder.SyntaxError("'\(text ?? "")' is no value for the fault \(rawValue); \(expected).")
        }
        switch form {
        case .none:
            guard text == nil else { throw wrong("it takes none") }
            return Fault(kind: self, value: .none)
        case .moment(let fallback, let allowed):
            guard let text else { return Fault(kind: self, value: .moment(fallback)) }
            guard let moment = Moment(text), allowed(moment) else { throw wrong("give \(placeholder)") }
            return Fault(kind: self, value: .moment(moment))
        case .number(_, let fallback, let range):
            guard let text else { return Fault(kind: self, value: .number(fallback)) }
            guard let number = Int(text), range.contains(number) else {
                throw wrong("give a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return Fault(kind: self, value: .number(number))
        case .choice(let choices):
            guard let text = text ?? choices.first, choices.contains(text) else { throw wrong("give one of: \(choices.joined(separator: ", "))") }
            return Fault(kind: self, value: .choice(text))
        }
    }

    private var placeholder: String {
        switch form {
        case .none: ""
        case .moment(_, let allowed):
            ([Moment.connect, .submit, .start, .node].filter(allowed).map(\.text) + ["STEP"] + [.success, .end, .view].filter(allowed).map(\.text))
                .joined(separator: "|")
        case .number(let unit, _, _): unit
        case .choice(let choices): choices.joined(separator: "|")
        }
    }

    private var defaultText: String {
        switch form {
        case .none: ""
        case .moment(let moment, _): " [\(moment.text)]"
        case .number(_, let number, _): " [\(number)]"
        case .choice(let choices): " [\(choices.first ?? "")]"
        }
    }

    /// `name=VALUES`, what it does, and the default.
    fileprivate var help: (left: String, right: String) {
        let value = if case .moment = form { "MOMENT" } else { placeholder }
        return (value.isEmpty ? rawValue : "\(rawValue)=\(value)", meaning + defaultText + (defaultFilter.map { " ~\($0)" } ?? ""))
    }
}

extension Fault {
    var valueText: String? {
        switch value {
        case .none: nil
        case .moment(let moment): moment.text
        case .number(let number): String(number)
        case .choice(let choice): choice
        }
    }

    /// The table of faults for `--help`, a line each.
    package static var help: [String] {
        let rows = Kind.allCases.map(\.help)
        let width = rows.map(\.left.count).max() ?? 0
        return rows.map { $0.left + String(repeating: " ", count: width - $0.left.count + 2) + $0.right }
    }
}
