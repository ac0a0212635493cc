#pragma once
// Nothing to call: this target is linked for what it defines.
