package mount

import (
	"testing"

	"cfgd/internal/memtest"
)

func TestMain(m *testing.M) { memtest.Main(m) }
