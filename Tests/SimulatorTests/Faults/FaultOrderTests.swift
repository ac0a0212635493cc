import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// How orders are written, and how chance decides. No server.
struct FaultOrderTests {
    @Test(arguments: [
        ("cut", FaultOrder(.cut(.end))),
        ("cut=17", FaultOrder(.cut(.step(17)))),
        ("exit=submit*2", FaultOrder(.exit(.submit), times: 2)),
        ("exit=3~poison*2@0.25", FaultOrder(.exit(.step(3)), only: "poison", times: 2, probability: 0.25)),
        ("error=502~/history@1", FaultOrder(.error(502), only: "/history")),
        ("error-after", FaultOrder(.errorAfter(500))),
        ("drop-final", FaultOrder(.dropFinal(.end))),
        ("duplicate-final=both", FaultOrder(.duplicateFinal(.both))),
        ("history-outputs=empty@1e-3", FaultOrder(.historyOutputs(.empty), probability: 0.001)),
        ("clock=-5", FaultOrder(.clock(milliseconds: -5))),
        ("garbage~a=b~c", FaultOrder(.garbage, only: "a=b~c")),
        ("slow~", FaultOrder(.slow(bytesPerSecond: 10_000))),
    ]) func ordersAsText(_ text: String, _ order: FaultOrder) throws { #expect(try FaultOrder(text) == order) }

    @Test(arguments: [
        "", "=", "cat", "cut=", "cut=0", "cut=-1", "cut=later", "dead-worker=connect", "out-of-memory=end", "refuse=-1", "refuse=1.5", "error=200",
        "html=99", "garbage=1", "drop-final=start", "break-off=100", "cut*0", "cut*x", "cut*", "cut@2", "cut@-0.1", "cut@", "cut@nan", "Cut",
        "huge-frame=0", "lying-length=4294967296",
    ]) func wrongTextIsRefused(_ text: String) {
        let error = #expect(throws: FaultOrder.SyntaxError.self) { try FaultOrder(text) }
        #expect(error?.description.isEmpty == false)
    }

    @Test(arguments: [
        (#"{"fault": "cut=3~x*4@0.5"}"#, FaultOrder(.cut(.step(3)), only: "x", times: 4, probability: 0.5)),
        (
            #"{"fault": "cut", "value": 3, "only": "a@b*c", "times": 4, "probability": 0.5}"#,
            FaultOrder(.cut(.step(3)), only: "a@b*c", times: 4, probability: 0.5)
        ),
        (#"{"fault": "mute", "value": "start", "times": null}"#, FaultOrder(.mute(.start))),
    ]) func ordersAsJSON(_ text: String, _ order: FaultOrder) throws { #expect(try FaultOrder(JSON(parsing: text)) == order) }

    @Test(arguments: [
        "7", "{}", #"{"fault": 1}"#, #"{"fault": "cut", "value": [1]}"#, #"{"fault": "cut", "when": "end"}"#, #"{"fault": "cut*2", "times": 2}"#,
    ]) func wrongJSONIsRefused(_ text: String) throws {
        let json = try JSON(parsing: text)
        #expect(throws: FaultOrder.SyntaxError.self) { try FaultOrder(json) }
    }

    @Test(arguments: Fault.Kind.allCases) func everyKindHasADefaultThatItTakes(_ kind: Fault.Kind) throws {
        let fault = try FaultOrder(kind.rawValue).fault
        #expect(fault.kind == kind)
        let text = fault.valueText.map { "\(kind.rawValue)=\($0)" } ?? kind.rawValue
        #expect(try FaultOrder(text).fault == fault)
        #expect(Fault.help.contains { $0.hasPrefix(kind.rawValue) && $0.contains(kind.meaning) })
    }

    // MARK: Chance

    private func choices(seed: UInt64, _ count: Int = 200, before: [Fault] = []) -> [Bool] {
        var faults = Faults(seed: seed)
        faults.arm(FaultOrder(.historyMissing, probability: 0.3))
        for fault in before { faults.arm(FaultOrder(fault, probability: 0.5)) }
        return (0..<count).map { _ in
            for fault in before { _ = faults.strike(fault.kind, subject: { "" }) }
            return faults.strike(.historyMissing, subject: { "" }) != nil
        }
    }

    @Test func aSeedDecidesTheSameWayEveryTime() {
        let first = choices(seed: 7)
        #expect(choices(seed: 7) == first)
        #expect(choices(seed: 7, before: [.hangUp, .garbage]) == first)  // whatever else is armed
        #expect(choices(seed: 8) != first)
    }

    @Test func probabilitiesAreKept() {
        let share = Double(choices(seed: 1, 20_000).count { $0 }) / 20_000
        #expect(abs(share - 0.3) < 0.02)
        var faults = Faults(seed: 0)
        faults.arm(FaultOrder(.garbage, probability: 0))
        for _ in 0..<100 { #expect(faults.strike(.garbage, subject: { "" }) == nil) }
    }

    @Test func ordersWithEqualWordsDecideApart() {
        var faults = Faults(seed: 0)
        for _ in 0..<2 { faults.arm(FaultOrder(.garbage, times: 1_000_000, probability: 0.5)) }
        for _ in 0..<1000 { _ = faults.strike(.garbage, subject: { "" }) }
        // The second is asked only when the first declines: were their choices equal, it would decline too.
        let counts = faults.armed.map(\.fired)
        #expect(counts[0] > 400 && counts[1] > 150)
    }

    // MARK: Which order strikes

    @Test func ordersAreUsedUpOneAfterTheOther() {
        var faults = Faults(seed: 0)
        faults.arm(FaultOrder(.error(500), times: 2))
        faults.arm(FaultOrder(.error(503), times: 1))
        let statuses = (0..<4).map { _ in faults.strike(.error, subject: { "" })?.number }
        #expect(statuses == [500, 500, 503, nil])
        #expect(faults.armed.isEmpty && faults.fired == [.error: 3])
    }

    @Test func textsAndMomentsMustFit() {
        var faults = Faults(seed: 0)
        faults.arm(FaultOrder(.cut(.step(2)), only: "portrait"))
        #expect(faults.strike(.cut, at: .step(2), subject: { "landscape" }) == nil)
        #expect(faults.strike(.cut, at: .step(1), subject: { "portrait" }) == nil)
        #expect(faults.strike(.cut, at: .step(2), subject: { "a portrait" }) != nil)
        faults.arm(FaultOrder(.noAnswer))
        #expect(faults.strike(.noAnswer, subject: { "GET /history" }) == nil)  // its default is POST /prompt
        #expect(faults.strike(.noAnswer, subject: { "POST /prompt" }) != nil)
        faults.clear()
        #expect(faults.armed.isEmpty && faults.fired == [.cut: 1, .noAnswer: 1])
    }

    @Test func wrongOutputsStayRecognizable() {
        let outputs: JSON = ["9": ["images": [["filename": "a.png", "subfolder": "filename", "type": "output"]], "text": ["filename"]]]
        #expect(
            Fault.WrongOutputs.renamed.applied(to: outputs)
                == ["9": ["images": [["filename": "missing_a.png", "subfolder": "filename", "type": "output"]], "text": ["filename"]]])
        #expect(Fault.WrongOutputs.empty.applied(to: outputs) == [:])
        #expect(Fault.WrongOutputs.garbage.applied(to: outputs).object == nil)
    }
}
