package keys

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// dumpsEnv makes this test's program switch dumps off and say what came of it.
const dumpsEnv = "SPILLWAY_TEST_KEYS_NO_DUMPS"

func TestMain(m *testing.M) {
	if os.Getenv(dumpsEnv) != "" {
		const prGetDumpable = 3
		err := NoDumps()
		dumpable, _, _ := syscall.Syscall(syscall.SYS_PRCTL, prGetDumpable, 0, 0)
		var limit syscall.Rlimit
		fmt.Println(err, dumpable, syscall.Getrlimit(syscall.RLIMIT_CORE, &limit), limit.Cur, limit.Max)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestPitfall45_NoDumps(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dumpsEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "<nil> 0 <nil> 0 0\n" {
		t.Errorf("%q, %v", out, err)
	}
}
