/// Something that goes wrong: one of the simulator's switches, and how far it goes.
package struct Fault: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        case cut, mute
        case halfOpen = "half-open"
        case exit
        case deadWorker = "dead-worker"
        case outOfMemory = "out-of-memory"
        case acceleratorOutOfMemory = "accelerator-out-of-memory"
        case deviceError = "device-error"
        case refuse
        case delayFinal = "delay-final"
        case dropFinal = "drop-final"
        case duplicateFinal = "duplicate-final"
        case historyMissing = "history-missing"
        case historyLate = "history-late"
        case historyOutputs = "history-outputs"
        case error
        case errorAfter = "error-after"
        case hangUp = "hang-up"
        case noAnswer = "no-answer"
        case delayAnswer = "delay-answer"
        case html, garbage, endless, slow
        case breakOff = "break-off"
        case hugeFrame = "huge-frame"
        case lyingLength = "lying-length"
        case clock
    }

    enum Value: Sendable, Hashable {
        case none
        case moment(Moment)
        case number(Int)
        case choice(String)
    }

    /// The two messages behind which nothing of a run follows.
    package enum FinalMessage: String, Sendable {
        /// `executing` with node null.
        case end
        /// `execution_success`, `execution_error` or `execution_interrupted`.
        case outcome
        case both
    }

    /// What the outputs of a history entry become.
    package enum WrongOutputs: String, Sendable {
        /// Names of files that do not exist.
        case renamed
        /// No outputs at all.
        case empty
        /// Not even an object.
        case garbage
    }

    package let kind: Kind
    let value: Value

    var moment: Moment? { if case .moment(let moment) = value { moment } else { nil } }
    var number: Int? { if case .number(let number) = value { number } else { nil } }
    var choice: String? { if case .choice(let choice) = value { choice } else { nil } }
}

/// Faults by their kind; `Kind.meaning` says what each does.
extension Fault {
    package static func cut(_ moment: Moment) -> Fault { Fault(kind: .cut, value: .moment(moment)) }
    package static func mute(_ moment: Moment) -> Fault { Fault(kind: .mute, value: .moment(moment)) }
    package static func halfOpen(_ moment: Moment) -> Fault { Fault(kind: .halfOpen, value: .moment(moment)) }
    package static func exit(_ moment: Moment) -> Fault { Fault(kind: .exit, value: .moment(moment)) }
    /// Not at `connect`, `submit` or `view`.
    package static func deadWorker(_ moment: Moment) -> Fault { Fault(kind: .deadWorker, value: .moment(moment)) }
    /// At `node` or a step.
    package static func acceleratorOutOfMemory(_ moment: Moment) -> Fault { Fault(kind: .acceleratorOutOfMemory, value: .moment(moment)) }
    /// At `node` or a step.
    package static func outOfMemory(_ moment: Moment) -> Fault { Fault(kind: .outOfMemory, value: .moment(moment)) }
    /// At `node` or a step.
    package static func deviceError(_ moment: Moment) -> Fault { Fault(kind: .deviceError, value: .moment(moment)) }
    package static func refuse(milliseconds: Int) -> Fault { Fault(kind: .refuse, value: .number(milliseconds)) }
    package static func delayFinal(milliseconds: Int) -> Fault { Fault(kind: .delayFinal, value: .number(milliseconds)) }
    package static func dropFinal(_ message: FinalMessage) -> Fault { Fault(kind: .dropFinal, value: .choice(message.rawValue)) }
    package static func duplicateFinal(_ message: FinalMessage) -> Fault { Fault(kind: .duplicateFinal, value: .choice(message.rawValue)) }
    package static let historyMissing = Fault(kind: .historyMissing, value: .none)
    package static func historyLate(milliseconds: Int) -> Fault { Fault(kind: .historyLate, value: .number(milliseconds)) }
    package static func historyOutputs(_ outputs: WrongOutputs) -> Fault { Fault(kind: .historyOutputs, value: .choice(outputs.rawValue)) }
    package static func error(_ status: Int) -> Fault { Fault(kind: .error, value: .number(status)) }
    package static func errorAfter(_ status: Int) -> Fault { Fault(kind: .errorAfter, value: .number(status)) }
    package static let hangUp = Fault(kind: .hangUp, value: .none)
    package static let noAnswer = Fault(kind: .noAnswer, value: .none)
    package static func delayAnswer(milliseconds: Int) -> Fault { Fault(kind: .delayAnswer, value: .number(milliseconds)) }
    package static func html(_ status: Int) -> Fault { Fault(kind: .html, value: .number(status)) }
    package static let garbage = Fault(kind: .garbage, value: .none)
    package static let endless = Fault(kind: .endless, value: .none)
    package static func slow(bytesPerSecond: Int) -> Fault { Fault(kind: .slow, value: .number(bytesPerSecond)) }
    package static func breakOff(percent: Int) -> Fault { Fault(kind: .breakOff, value: .number(percent)) }
    package static func hugeFrame(megabytes: Int) -> Fault { Fault(kind: .hugeFrame, value: .number(megabytes)) }
    package static func lyingLength(_ bytes: Int) -> Fault { Fault(kind: .lyingLength, value: .number(bytes)) }
    package static func clock(milliseconds: Int) -> Fault { Fault(kind: .clock, value: .number(milliseconds)) }
}
