import Foundation
import Testing

@testable import Bridge
@testable import Jobs

/// `--data-dir` and how much is kept in it.
@Suite struct DataDirectoryOptionTests {
    private func configuration(_ arguments: [String], _ environment: [String: String]) throws -> BridgeConfiguration {
        try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: arguments, environment: environment))
    }

    @Test(
        "Where it is",
        arguments: [
            ([], ["HOME": "/home/a"], "/home/a/.local/state/comfy-bridge"), ([], ["HOME": "/home/a", "XDG_STATE_HOME": "/s"], "/s/comfy-bridge"),
            ([], ["HOME": "/home/a", "XDG_STATE_HOME": ""], "/home/a/.local/state/comfy-bridge"), ([], ["HOME": "/home/a", "XDG_STATE_HOME": "relative"], "/home/a/.local/state/comfy-bridge"),
            (["--data-dir", "/d"], ["HOME": "/home/a"], "/d"), ([], ["HOME": "/home/a", "COMFY_BRIDGE_DATA_DIR": "/data"], "/data"),
            (["--data-dir", "none"], ["HOME": "/home/a", "COMFY_BRIDGE_DATA_DIR": "/data"], nil), ([], ["COMFY_BRIDGE_DATA_DIR": "none"], nil),
        ] as [([String], [String: String], String?)]) func place(_ arguments: [String], _ environment: [String: String], _ expected: String?) throws
    {
        #expect(try configuration(arguments, environment).dataDirectory == expected)
    }

    @Test("How much jobs may take", arguments: [([], 10_240 << 20), (["--retention-size", "0"], nil), (["--retention-size", "3"], 3 << 20)] as [([String], Int?)])
    func size(_ arguments: [String], _ expected: Int?) throws {
        #expect(try configuration(arguments, ["HOME": "/h"]).jobs.retainedBytes == expected)
    }
}
