import Foundation
import Logging
import Synchronization
import Testing

@testable import Bridge

@Suite struct TextLogHandlerTests {
    private final class Lines: Sendable {
        let lines = Mutex<[String]>([])
    }

    private func logged(_ body: (Logger) -> Void) -> [String] {
        let lines = Lines()
        var logger = Logger(label: "test") { label in
            TextLogHandler(
                label: label, write: { line in lines.lines.withLock { $0.append(String(decoding: line, as: UTF8.self)) } },
                now: { Date(timeIntervalSince1970: 1_795_517_731.25) })
        }
        logger.logLevel = .trace
        body(logger)
        return lines.lines.withLock(\.self)
    }

    @Test func anEntryIsOneLine() {
        let lines = logged { logger in
            var logger = logger
            logger[metadataKey: "comfy.url"] = "http://a"
            logger.info("job ended", metadata: ["queue_ms": .stringConvertible(12), "error": "it broke", "quoted": "a \"b\"", "pair": "a=b", "none": ""])
        }
        #expect(
            lines == [
                #"2026-11-24T10:55:31.250Z info test: comfy.url=http://a error="it broke" none="" pair="a=b" queue_ms=12 quoted="a \"b\"" [BridgeTests] job ended"# + "\n"
            ])
    }

    @Test(
        "What comes from elsewhere forges no line and gives no orders",
        arguments: [
            ("a\nb", #"a\nb"#), ("a\r\nb", #"a\r\nb"#), ("a\tb", #"a\tb"#), ("\u{1b}[31mred", #"\u{1b}[31mred"#), ("\u{0}\u{7}\u{8}\u{7f}", #"\u{0}\u{7}\u{8}\u{7f}"#),
            ("\u{85}\u{9b}31m", #"\u{85}\u{9b}31m"#), ("\u{2028}\u{2029}", #"\u{2028}\u{2029}"#), ("\u{202e}txt\u{2066}\u{200f}", #"\u{202e}txt\u{2066}\u{200f}"#),
            ("\u{feff}\u{e0041}", #"\u{feff}\u{e0041}"#), ("né😀", "né😀"), (#"C:\x"#, #"C:\x"#),
        ])
    func escapes(_ text: String, _ shown: String) {
        let lines = logged { $0.warning("\(text)", metadata: ["k": "\(text)", "list": ["\(text)"], "k\(text)": "v"]) }
        #expect(lines.count == 1)
        let line = lines[0]
        #expect(line.hasSuffix(" [BridgeTests] \(shown)\n"))
        #expect(line.contains(" k=\(shown) k\(shown)=v "))
        #expect(line.dropLast().unicodeScalars.allSatisfy { ![.control, .format, .lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory) })
    }

    @Test func aValueForgesNoOther() {
        #expect(logged { $0.info("m", metadata: ["http.path": "/x job.status=succeeded"]) }[0].contains(#"http.path="/x job.status=succeeded" ["#))
    }
}
