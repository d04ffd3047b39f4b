lost.class IN ('exec', 'unknown')
